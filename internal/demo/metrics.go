package demo

import (
	"context"
	"errors"
	"fmt"

	dto "github.com/prometheus/client_model/go"

	"waterproxy/internal/meter"
)

// bytesMetric is the counter of the bytes at a module's network descriptor.
const bytesMetric = "waterproxy_bytes_total"

// carried is how many bytes went through a module since its process started.
type carried struct{ toNetwork, fromNetwork uint64 }

// readCarried asks the process behind a Unix socket. A counter that is not there
// is an error: it does not mean zero.
func readCarried(ctx context.Context, socket, transport string) (carried, error) {
	families, err := meter.Fetch(ctx, "unix:"+socket)
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
