package meter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Bounds of an answer, whoever gives it.
const (
	readTimeout     = 10 * time.Second // for all of it
	maxAnswer       = 1 << 20          // bytes, enough for 400 transports
	maxAnswerHeader = 64 << 10
	maxReason       = 200 // characters of an error that has the answer's words in it
)

// Row is what a process reports about one transport. Any text and any number may be
// in it.
type Row struct {
	Transport                       string // as it was served: it need not be printable
	Open, Finished, Failed, Refused Figure
	ToNetwork, FromNetwork          Figure        // bytes
	SetUp                           time.Duration // the median, 0 if there was none
	Instances, Memory               Figure
	Traps, Limits                   Figure
}

// Figure is a number that was served. Use Value to learn whether it makes sense.
type Figure float64

// maxFigure is the largest number up to which a float64 has every integer.
const maxFigure = 1 << 53

// unknown is a figure that was not served.
var unknown = Figure(math.NaN())

// Value returns the figure as a number of things. ok is false if it is none: not
// served, negative, infinite, or larger than anything that can be counted.
func (f Figure) Value() (n uint64, ok bool) {
	if f >= 0 && f <= maxFigure { // false for NaN
		return uint64(f), true
	}
	return 0, false
}

// Read asks the process that serves its figures at an address (see Serve). The rows
// are sorted by transport.
func Read(ctx context.Context, address string) ([]Row, error) {
	families, err := Fetch(ctx, address)
	if err != nil {
		return nil, err
	}
	return rowsOf(families)
}

// rowsOf makes sense of figures.
func rowsOf(families map[string]*dto.MetricFamily) ([]Row, error) {
	all := len(families)
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, prefix) })
	if all > 0 && len(families) == 0 {
		return nil, errors.New("these are not the figures of waterproxy")
	}
	rows := map[string]*Row{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			row := rows[labels[byTransport]]
			if row == nil {
				row = newRow(labels[byTransport])
				rows[row.Transport] = row
			}
			row.set(name, labels, m)
		}
	}
	sorted := make([]Row, 0, len(rows))
	for _, row := range rows {
		sorted = append(sorted, *row)
	}
	slices.SortFunc(sorted, func(a, b Row) int { return cmp.Compare(a.Transport, b.Transport) })
	return sorted, nil
}

// newRow returns a row without figures.
func newRow(transport string) *Row {
	r := &Row{Transport: transport}
	for _, f := range r.figures() {
		*f.to = unknown
	}
	return r
}

// served is a figure of a row, by the names under which it is served.
type served struct {
	name  string
	label string // the value of the second label, if there is one
	to    *Figure
}

func (r *Row) figures() []served {
	return []served{
		{openName, "", &r.Open},
		{endedName, Finished, &r.Finished},
		{endedName, Failed, &r.Failed},
		{endedName, Refused, &r.Refused},
		{bytesName, toNetwork, &r.ToNetwork},
		{bytesName, fromNetwork, &r.FromNetwork},
		{instName, "", &r.Instances},
		{memoryName, "", &r.Memory},
		{trapsName, "", &r.Traps},
		{limitsName, "", &r.Limits},
	}
}

// set takes in a figure.
func (r *Row) set(name string, labels map[string]string, m *dto.Metric) {
	if name == setUpName {
		r.SetUp = median(m.GetHistogram())
		return
	}
	for _, f := range r.figures() {
		if f.name == name && f.label == labels["outcome"]+labels["direction"] {
			*f.to = figure(m)
		}
	}
}

// figure returns the number of a metric of any simple type.
func figure(m *dto.Metric) Figure {
	switch {
	case m.Gauge != nil:
		return Figure(m.GetGauge().GetValue())
	case m.Counter != nil:
		return Figure(m.GetCounter().GetValue())
	case m.Untyped != nil:
		return Figure(m.GetUntyped().GetValue())
	}
	return unknown
}

// median estimates the median from a histogram, as if the values of a bucket were
// spread evenly. It is 0 for a histogram that makes no sense.
func median(h *dto.Histogram) time.Duration {
	half := float64(h.GetSampleCount()) / 2
	if half == 0 {
		return 0
	}
	last := setUpBuckets[len(setUpBuckets)-1]
	below, from := 0.0, 0.0
	for _, b := range h.GetBucket() {
		count, to := float64(b.GetCumulativeCount()), b.GetUpperBound()
		if !(to >= from && count >= below) { // NaN is not either
			return 0
		}
		if count >= half && to <= last {
			return time.Duration((from + (to-from)*(half-below)/(count-below)) * float64(time.Second))
		}
		below, from = count, to
	}
	return time.Duration(last * float64(time.Second))
}

// Fetch is Read without making sense of the figures. What it takes in is bounded in
// time and size, and its errors are fit to be printed on a terminal.
func Fetch(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	e, err := parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	body, kind, err := e.get(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("there was no complete answer within %v", readTimeout)
	}
	if err != nil {
		return nil, printable(err)
	}
	return parseFigures(body, kind)
}

// parseFigures reads an answer of a type.
func parseFigures(body []byte, kind string) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, printable(fmt.Errorf("the answer, of type %q, is not in the text format of Prometheus: %w", kind, err))
	}
	return families, nil
}

// get returns what is served, and its type.
func (e endpoint) get(ctx context.Context) (body []byte, kind string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return nil, "", err
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxAnswerHeader,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, e.network, e.address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the rest is an address that was not asked
		}
		return nil, "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("the answer is %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return body, response.Header.Get("Content-Type"), err
}

// printable returns an error with a text of one line, without control characters and
// of bounded length. Another process's words may be in err.
func printable(err error) error {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, err.Error())
	if runes := []rune(text); len(runes) > maxReason {
		text = string(runes[:maxReason]) + "..."
	}
	return errors.New(text)
}
