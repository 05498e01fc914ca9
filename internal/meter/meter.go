// Package meter counts what the managed proxy carries and serves the figures in
// the Prometheus text format.
package meter

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"waterproxy/transport"
)

// Outcomes of a connection, as shown in its counter.
const (
	Finished = "finished" // ended cleanly
	Failed   = "failed"   // ended by an error after it was up
	Refused  = "refused"  // was never up
)

// Source is what bytes are counted by: a dialer or listener.
type Source interface{ Stats() transport.Stats }

// Meter counts connections and bytes by transport. It is safe for concurrent
// use.
type Meter struct {
	registry *prometheus.Registry
	conns    *prometheus.CounterVec
	open     *prometheus.GaugeVec

	mu      sync.Mutex
	sources map[string]Source // by transport
}

var bytesDesc = prometheus.NewDesc("waterproxy_bytes_total",
	"Bytes carried, on the network side of the modules.", []string{"transport", "direction"}, nil)

// New returns a Meter that has counted nothing.
func New() *Meter {
	m := &Meter{
		registry: prometheus.NewRegistry(),
		conns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waterproxy_connections_total", Help: "Connections that have ended, by outcome.",
		}, []string{"transport", "outcome"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "waterproxy_connections_open", Help: "Connections that are up.",
		}, []string{"transport"}),
		sources: map[string]Source{},
	}
	m.registry.MustRegister(m.conns, m.open, (*byteCollector)(m))
	return m
}

// Offer makes a transport's figures appear. Its bytes are those that the source
// has counted.
func (m *Meter) Offer(name string, bytes Source) {
	m.open.WithLabelValues(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[name] = bytes
}

// Refuse counts a connection that was never up.
func (m *Meter) Refuse(name string) { m.conns.WithLabelValues(name, Refused).Inc() }

// Begin counts a connection as open until the returned function is called with
// the error that ended it, nil for none.
func (m *Meter) Begin(name string) (end func(error)) {
	m.open.WithLabelValues(name).Inc()
	return func(err error) {
		m.open.WithLabelValues(name).Dec()
		outcome := Finished
		if err != nil {
			outcome = Failed
		}
		m.conns.WithLabelValues(name, outcome).Inc()
	}
}

// byteCollector asks the sources when it is asked.
type byteCollector Meter

func (*byteCollector) Describe(ch chan<- *prometheus.Desc) { ch <- bytesDesc }

func (m *byteCollector) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	sources := maps.Clone(m.sources)
	m.mu.Unlock()
	for name, source := range sources {
		s := source.Stats()
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(s.ToNetwork), name, "to_network")
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(s.FromNetwork), name, "from_network")
	}
}

// Serve answers GET /metrics at an address: unix:PATH, or a loopback HOST:PORT.
// Nobody outside this machine may ask. It returns once it listens; the function
// it returns stops it.
func (m *Meter) Serve(address string) (stop func() error, err error) {
	l, err := listen(address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }() // it ends with Close, and with nothing else that could be mended
	return srv.Close, nil
}

func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return l, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is neither unix:PATH nor HOST:PORT", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%q is no loopback address: the figures are for this machine only", host)
	}
	return net.Listen("tcp", address)
}

// removeStale removes the socket that an earlier process left.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	return os.Remove(path)
}
