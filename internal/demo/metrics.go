package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// bytesMetric is the counter of the bytes at a module's network descriptor.
const bytesMetric = "waterproxy_bytes_total"

// metricsTimeout is how long an answer may take.
const metricsTimeout = 10 * time.Second

// carried is how many bytes went through a module since its process started.
type carried struct{ toNetwork, fromNetwork uint64 }

// readCarried asks the process behind a Unix socket. A counter that is not there
// is an error: it does not mean zero.
func readCarried(ctx context.Context, socket, transport string) (carried, error) {
	families, err := readMetrics(ctx, socket)
	if err != nil {
		return carried{}, err
	}
	family := families[bytesMetric]
	toNetwork, err := counter(family, transport, "to_network")
	if err != nil {
		return carried{}, err
	}
	fromNetwork, err := counter(family, transport, "from_network")
	return carried{toNetwork: toNetwork, fromNetwork: fromNetwork}, err
}

func readMetrics(ctx context.Context, socket string) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
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

// counter returns the value of one counter of a transport.
func counter(family *dto.MetricFamily, transport, direction string) (uint64, error) {
	if family == nil {
		return 0, errors.New("there is no counter " + bytesMetric)
	}
	for _, metric := range family.GetMetric() {
		labels := make(map[string]string)
		for _, pair := range metric.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		if labels["transport"] == transport && labels["direction"] == direction && metric.Counter != nil {
			return uint64(metric.GetCounter().GetValue()), nil
		}
	}
	return 0, fmt.Errorf("there is no counter %s{transport=%q,direction=%q}", bytesMetric, transport, direction)
}
