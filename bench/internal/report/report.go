// Package report collects the samples and failures of a benchmark run and
// renders them as Markdown and as JSON.
package report

import (
	"encoding/json"
	"io"
	"math"
	"sync"

	"waterproxy/internal/measure"
)

// Contestant is what is compared: a column of the tables.
type Contestant struct {
	Name  string `json:"name"`
	About string `json:"about"` // how it was run
}

// Failure is something that went wrong. Round counts from 1; 0 is none in
// particular.
type Failure struct {
	Contestant string `json:"contestant"`
	Test       string `json:"test"`
	Round      int    `json:"round,omitempty"`
	Error      string `json:"error"`
}

// Report is the outcome of a run. Its methods may be called concurrently.
type Report struct {
	Title       string
	Notes       []string
	Machine     Machine
	Options     measure.Options
	Baseline    string
	Contestants []Contestant

	mu       sync.Mutex
	tests    []section
	samples  map[string]map[string][]float64 // metric key, contestant: by round
	failures []Failure
}

// section is a test and the rounds it was to be run.
type section struct {
	name    string
	rounds  int
	metrics []measure.Metric
}

// AddTest declares a test before its samples are added: the order of the calls
// is the order of the rows, and a test that yields nothing is still shown.
func (r *Report) AddTest(name string, rounds int, metrics []measure.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tests = append(r.tests, section{name, rounds, metrics})
}

// AddSample stores what a contestant's round (from 1) of a test yielded.
func (r *Report) AddSample(contestant string, round int, s measure.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.samples == nil {
		r.samples = make(map[string]map[string][]float64)
	}
	for key, value := range s {
		if r.samples[key] == nil {
			r.samples[key] = make(map[string][]float64)
		}
		rounds := r.samples[key][contestant]
		for len(rounds) < round {
			rounds = append(rounds, math.NaN())
		}
		rounds[round-1] = value
		r.samples[key][contestant] = rounds
	}
}

// Fail stores a failure.
func (r *Report) Fail(contestant, test string, round int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, Failure{contestant, test, round, err.Error()})
}

// Failures returns everything that went wrong.
func (r *Report) Failures() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Failure(nil), r.failures...)
}

// SavedMetric is a metric with its raw samples, one per round, null where there
// is none.
type SavedMetric struct {
	measure.Metric
	Test    string                     `json:"test"`
	Samples map[string][]*float64      `json:"samples"`
	Summary map[string]measure.Summary `json:"summary"`
	Ratio   map[string]measure.Summary `json:"ratio_to_baseline,omitempty"`
}

// Saved is a report as WriteJSON writes it.
type Saved struct {
	Title       string          `json:"title"`
	Notes       []string        `json:"notes,omitempty"`
	Machine     Machine         `json:"machine"`
	Options     measure.Options `json:"options"`
	Baseline    string          `json:"baseline,omitempty"`
	Contestants []Contestant    `json:"contestants"`
	Metrics     []SavedMetric   `json:"metrics"`
	Failures    []Failure       `json:"failures"`
}

// WriteJSON writes several reports as one JSON array.
func WriteJSON(w io.Writer, reports ...*Report) error {
	out := make([]Saved, 0, len(reports))
	for _, r := range reports {
		out = append(out, r.json())
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// ReadJSON reads what WriteJSON has written.
func ReadJSON(r io.Reader) (saved []Saved, err error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	return saved, d.Decode(&saved)
}

func (r *Report) json() Saved {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := Saved{
		Title: r.Title, Notes: r.Notes, Machine: r.Machine, Options: r.Options, Baseline: r.Baseline,
		Contestants: r.Contestants, Failures: append([]Failure{}, r.failures...),
	}
	for _, t := range r.tests {
		for _, m := range t.metrics {
			jm := SavedMetric{
				Metric: m, Test: t.name,
				Samples: make(map[string][]*float64),
				Summary: make(map[string]measure.Summary),
				Ratio:   make(map[string]measure.Summary),
			}
			for _, c := range r.Contestants {
				values := r.samples[m.Key][c.Name]
				for _, v := range values {
					if math.IsNaN(v) {
						jm.Samples[c.Name] = append(jm.Samples[c.Name], nil)
						continue
					}
					jm.Samples[c.Name] = append(jm.Samples[c.Name], &v)
				}
				if s := measure.Summarize(values); s.N > 0 {
					jm.Summary[c.Name] = s
				}
				if m.Better == measure.Neutral {
					continue
				}
				if s := measure.Summarize(measure.Ratios(values, r.samples[m.Key][r.Baseline])); s.N > 0 {
					jm.Ratio[c.Name] = s
				}
			}
			j.Metrics = append(j.Metrics, jm)
		}
	}
	return j
}
