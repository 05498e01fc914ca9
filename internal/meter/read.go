package meter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// readTimeout is how long an answer may take.
const readTimeout = 10 * time.Second

// Row is what a process says of one transport.
type Row struct {
	Transport                       string
	Open, Finished, Failed, Refused uint64
	ToNetwork, FromNetwork          uint64        // bytes
	SetUp                           time.Duration // the median, 0 if there was none
	Instances, Memory               uint64
	Traps, Limits                   uint64
}

// Read asks the process that serves its figures at an address (see Serve). The rows
// are sorted by transport.
func Read(ctx context.Context, address string) ([]Row, error) {
	families, err := Fetch(ctx, address)
	if err != nil {
		return nil, err
	}
	if _, ok := families[setUpName]; !ok && len(families) > 0 {
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
				row = &Row{Transport: labels[byTransport]}
				rows[row.Transport] = row
			}
			row.set(name, labels, m)
		}
	}
	all := make([]Row, 0, len(rows))
	for _, row := range rows {
		all = append(all, *row)
	}
	slices.SortFunc(all, func(a, b Row) int { return cmp.Compare(a.Transport, b.Transport) })
	return all, nil
}

// set takes in a figure.
func (r *Row) set(name string, labels map[string]string, m *dto.Metric) {
	if name == setUpName {
		r.SetUp = median(m.GetHistogram())
		return
	}
	for _, f := range []struct {
		name  string
		label string // the value of the second label, if there is one
		to    *uint64
	}{
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
	} {
		if f.name == name && f.label == labels["outcome"]+labels["direction"] {
			*f.to = uint64(m.GetGauge().GetValue() + m.GetCounter().GetValue()) // it is one of the two
		}
	}
}

// median estimates the median from a histogram, as if the values of a bucket were
// spread evenly.
func median(h *dto.Histogram) time.Duration {
	half := float64(h.GetSampleCount()) / 2
	if half == 0 {
		return 0
	}
	below, from := 0.0, 0.0
	for _, b := range h.GetBucket() {
		count, to := float64(b.GetCumulativeCount()), b.GetUpperBound()
		if count >= half && to <= setUpBuckets[len(setUpBuckets)-1] {
			return time.Duration((from + (to-from)*(half-below)/(count-below)) * float64(time.Second))
		}
		below, from = count, to
	}
	return time.Duration(setUpBuckets[len(setUpBuckets)-1] * float64(time.Second))
}

// Fetch is Read without making sense of the figures.
func Fetch(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(response.Body)
}
