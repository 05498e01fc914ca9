package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"waterproxy/internal/measure"
)

// sample is a report with every kind of cell in it.
func sample() *Report {
	r := &Report{
		Title:       "Title",
		Notes:       []string{"a note"},
		Machine:     Machine{CPU: "CPU", Cores: 2, Kernel: "k", Go: "go", OS: "linux/amd64", Date: time.Unix(0, 0).UTC(), Commit: "abc"},
		Baseline:    "base",
		Contestants: []Contestant{{"base", "as | is"}, {"other", "`cmd`"}, {"broken", "x"}},
	}
	r.AddTest("bulk", 3, []measure.Metric{
		{Key: "rate", Label: "upload", Unit: "MB/s", Better: measure.Higher},
		{Key: "cpu", Label: "CPU", Unit: "s/GB", Better: measure.Lower},
		{Key: "nobody", Label: "what nobody has", Unit: "s", Better: measure.Lower},
	})
	r.AddTest("close", 1, []measure.Metric{{Key: "closed", Label: "all arrived", Of: 10}})
	r.AddTest("idle", 1, []measure.Metric{{Key: "threads", Label: "threads"}})
	r.AddTest("never", 2, []measure.Metric{{Key: "never", Label: "failed for all", Unit: "ms"}})
	for i, v := range []float64{100, 200, 300} {
		r.AddSample("base", i+1, measure.Sample{"rate": v})
	}
	r.AddSample("other", 1, measure.Sample{"rate": 50, "cpu": 0.5})
	r.AddSample("other", 3, measure.Sample{"rate": 600, "cpu": 1.5})
	r.Fail("other", "bulk", 2, errors.New("stalled\nlost"))
	for round := 1; round <= 3; round++ {
		r.Fail("broken", "bulk", round, errors.New("no start"))
	}
	r.AddSample("base", 1, measure.Sample{"closed": 10, "threads": 9})
	r.AddSample("other", 1, measure.Sample{"closed": 7})
	r.Fail("other", "close", 1, errors.New("7 of 10"))
	for _, c := range []string{"base", "other", "broken"} {
		r.Fail(c, "never", 1, errors.New("x"))
		r.Fail(c, "never", 2, errors.New("x"))
	}
	return r
}

// rowsOf returns the cells of the table rows that begin with a label.
func rowsOf(text, label string) [][]string {
	var out [][]string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| "+label) {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), " |") {
			cells = append(cells, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(cell), "|")))
		}
		out = append(out, cells)
	}
	return out
}

func TestWriteMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, c := range []struct {
		label string
		row   int
		want  []string
	}{
		{"upload, MB/s", 0, []string{"upload, MB/s", "200 (100..300, n=3)", "325 (50..600, n=2), **FAILED** 1 of 3", "**FAILED** 3 of 3"}},
		{"CPU, s/GB", 0, []string{"CPU, s/GB", "–", "1.0 (0.50..1.5, n=2), **FAILED** 1 of 3", "**FAILED** 3 of 3"}},
		{"all arrived", 0, []string{"all arrived", "10 of 10", "**7 of 10**", "–"}},
		{"threads", 0, []string{"threads", "9", "–", "–"}},
		{"failed for all", 0, []string{"failed for all, ms", "**FAILED** 2 of 2", "**FAILED** 2 of 2", "**FAILED** 2 of 2"}},
		{"upload, higher", 0, []string{"upload, higher is better", "1", "1.2 (0.50..2.0)", "**FAILED**"}},
	} {
		rows := rowsOf(text, c.label)
		if len(rows) <= c.row {
			t.Errorf("no row %q", c.label)
			continue
		}
		if got := strings.Join(rows[c.row], " / "); got != strings.Join(c.want, " / ") {
			t.Errorf("%s:\n got %s\nwant %s", c.label, got, strings.Join(c.want, " / "))
		}
	}
	for _, want := range []string{
		"## Title\n", "- a note\n", "- commit abc\n", `as \| is`,
		"- **other** (bulk 2): stalled; lost\n",
		"- **broken** (bulk 1, bulk 2, bulk 3): no start\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "what nobody has") {
		t.Error("a row without any value is shown")
	}
	// Every table's lines have the same width, and its rows the same columns.
	var width int
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			width = 0
			continue
		}
		if n := utf8.RuneCountInString(line); width == 0 {
			width = n
		} else if n != width {
			t.Errorf("line of %d characters in a table of %d: %s", n, width, line)
		}
	}
}

func TestNoFailuresIsSaid(t *testing.T) {
	r := &Report{Contestants: []Contestant{{"a", "x"}}}
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "None.") {
		t.Errorf("got\n%s", &b)
	}
}

func TestWriteJSON(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSON(&b, sample()); err != nil {
		t.Fatal(err)
	}
	var got []Saved
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	rate := got[0].Metrics[0]
	other := rate.Samples["other"]
	if len(other) != 3 || other[0] == nil || *other[0] != 50 || other[1] != nil || *other[2] != 600 {
		t.Errorf("samples %v: want 50, null, 600", other)
	}
	if s := rate.Ratio["other"]; s.N != 2 || s.Min != 0.5 || s.Max != 2 {
		t.Errorf("ratio %+v", s)
	}
	if n := len(got[0].Failures); n != 11 {
		t.Errorf("%d failures, want 11", n)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.00123: "0.0012", 0.05: "0.05", 0.1234: "0.12", 1.234: "1.2", 12.34: "12", 1234.5: "1234", -1.5: "-1.5",
		math.Pi * 1e6: "3141593",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestThisMachine(t *testing.T) {
	m := ThisMachine()
	if m.CPU == "" || m.Cores < 1 || m.Kernel == "" || m.Go == "" || m.Date.IsZero() {
		t.Errorf("incomplete: %+v", m)
	}
}
