// Package meter counts what the managed proxy carries and serves the figures in
// the Prometheus text format.
package meter

import (
	"errors"
	"fmt"
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

// Conn is what can be counted.
type Conn interface{ Stats() transport.Stats }

// Meter counts connections and bytes by transport. It is safe for concurrent
// use.
type Meter struct {
	registry *prometheus.Registry
	conns    *prometheus.CounterVec
	open     *prometheus.GaugeVec

	mu   sync.Mutex
	live map[Conn]string            // transport of each open connection
	past map[string]transport.Stats // sums over the ended connections
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
		live: map[Conn]string{},
		past: map[string]transport.Stats{},
	}
	m.registry.MustRegister(m.conns, m.open, (*byteCollector)(m))
	return m
}

// Offer makes a transport's figures appear, at zero.
func (m *Meter) Offer(name string) {
	m.open.WithLabelValues(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.past[name] = m.past[name]
}

// Refuse counts a connection that was never up.
func (m *Meter) Refuse(name string) { m.conns.WithLabelValues(name, Refused).Inc() }

// Begin counts a connection as open until the returned function is called with
// the error that ended it, nil for none.
func (m *Meter) Begin(name string, c Conn) (end func(error)) {
	m.open.WithLabelValues(name).Inc()
	m.mu.Lock()
	m.live[c] = name
	m.mu.Unlock()
	return func(err error) {
		m.mu.Lock()
		delete(m.live, c)
		m.past[name] = sum(m.past[name], c.Stats())
		m.mu.Unlock()
		m.open.WithLabelValues(name).Dec()
		outcome := Finished
		if err != nil {
			outcome = Failed
		}
		m.conns.WithLabelValues(name, outcome).Inc()
	}
}

func sum(a, b transport.Stats) transport.Stats {
	a.ToNetwork += b.ToNetwork
	a.FromNetwork += b.FromNetwork
	a.ToCaller += b.ToCaller
	a.FromCaller += b.FromCaller
	return a
}

// byteCollector adds up the bytes of open and ended connections when asked.
type byteCollector Meter

func (*byteCollector) Describe(ch chan<- *prometheus.Desc) { ch <- bytesDesc }

func (m *byteCollector) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	totals := make(map[string]transport.Stats, len(m.past))
	for name, s := range m.past {
		totals[name] = s
	}
	for c, name := range m.live {
		totals[name] = sum(totals[name], c.Stats())
	}
	m.mu.Unlock()
	for name, s := range totals {
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
