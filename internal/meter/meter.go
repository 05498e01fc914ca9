// Package meter counts what the managed proxy carries and serves the figures in
// the Prometheus text format.
package meter

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"waterproxy/transport"
)

// Outcomes of a connection, as shown in its counter.
const (
	Finished = "finished" // ended cleanly
	Failed   = "failed"   // ended by an error after it was up
	Refused  = "refused"  // was never up
)

// Directions in which bytes go, as shown in their counter.
const (
	toNetwork   = "to_network"
	fromNetwork = "from_network"
)

// What modules call the host for, as shown in the counter of calls.
const (
	cryptography = "cryptography"
	otherCalls   = "other"
)

// Source is what a transport's figures come from besides Begin and Refuse: a dialer
// or listener.
type Source interface {
	Stats() transport.Stats
}

// Meter counts connections and bytes by transport. It is safe for concurrent
// use.
type Meter struct {
	registry *prometheus.Registry
	setUp    *prometheus.HistogramVec
	waiting  atomic.Bool // see Waiting

	mu         sync.Mutex
	transports map[string]*figures
}

// figures are those of one transport.
type figures struct {
	open, finished, failed int
	refused                int64 // besides those that the sources have refused
	sources                []Source
}

// Names of the metrics. All have the label transport.
const (
	prefix      = "waterproxy_"
	openName    = prefix + "connections_open"
	endedName   = prefix + "connections_total"
	bytesName   = prefix + "bytes_total"
	setUpName   = prefix + "setup_seconds"
	instName    = prefix + "instances"
	memoryName  = prefix + "instance_memory_bytes"
	trapsName   = prefix + "traps_total"
	limitsName  = prefix + "limits_total"
	callsName   = prefix + "host_calls_total"
	byTransport = "transport"
)

var (
	openDesc   = desc(openName, "Connections that are up.")
	endedDesc  = desc(endedName, "Connections that have ended, by outcome.", "outcome")
	bytesDesc  = desc(bytesName, "Bytes carried, on the network side of the modules.", "direction")
	instDesc   = desc(instName, "Instances of the module.")
	memoryDesc = desc(memoryName, "What those instances take of the memory, by their limit's count.")
	trapsDesc  = desc(trapsName, "Instances whose code has failed.")
	limitsDesc = desc(limitsName, "Set-ups and instances that have reached a limit.")
	callsDesc  = desc(callsName, "Calls of modules to the host, by what they are for.", "kind")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{byTransport}, labels...), nil)
}

// setUpBuckets reach from the loopback interface to the default time limit.
var setUpBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// New returns a Meter that has counted nothing.
func New() *Meter {
	m := &Meter{
		registry: prometheus.NewRegistry(),
		setUp: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: setUpName, Help: "Time that connections took to be up.", Buckets: setUpBuckets,
		}, []string{byTransport}),
		transports: map[string]*figures{},
	}
	m.registry.MustRegister(m.setUp, (*collector)(m))
	return m
}

// of returns a transport's figures. The lock is held.
func (m *Meter) of(name string) *figures {
	f := m.transports[name]
	if f == nil {
		f = &figures{}
		m.transports[name] = f
	}
	return f
}

// Offer makes a transport's figures appear, with what the source has counted.
func (m *Meter) Offer(name string, s Source) {
	m.setUp.WithLabelValues(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.of(name); !slices.Contains(f.sources, s) {
		f.sources = append(f.sources, s)
	}
}

// Refuse counts a connection that was never up, for a reason which the source does
// not know.
func (m *Meter) Refuse(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).refused++
}

// Begin counts a connection as open until the returned function is called with
// the error that ended it, nil for none. It took so long to be up, 0 if it came over
// another one.
func (m *Meter) Begin(name string, setUp time.Duration) (end func(error)) {
	if setUp > 0 {
		m.setUp.WithLabelValues(name).Observe(setUp.Seconds())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(name).open++
	return func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f := m.of(name)
		f.open--
		if err != nil {
			f.failed++
		} else {
			f.finished++
		}
	}
}

// collector asks the sources when it is asked.
type collector Meter

func (*collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, endedDesc, bytesDesc, instDesc, memoryDesc, trapsDesc, limitsDesc, callsDesc} {
		ch <- d
	}
}

func (m *collector) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	all := make(map[string]figures, len(m.transports))
	for name, f := range m.transports {
		all[name] = *f
	}
	m.mu.Unlock()
	for name, f := range all {
		gauge := func(d *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, name)
		}
		count := func(d *prometheus.Desc, value int64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), append([]string{name}, labels...)...)
		}
		var st transport.Stats
		for _, s := range f.sources {
			st = st.Plus(s.Stats())
		}
		gauge(openDesc, float64(f.open))
		count(endedDesc, int64(f.finished), Finished)
		count(endedDesc, int64(f.failed), Failed)
		count(endedDesc, f.refused+st.Refused, Refused)
		count(bytesDesc, st.ToNetwork, toNetwork)
		count(bytesDesc, st.FromNetwork, fromNetwork)
		gauge(instDesc, float64(st.Instances))
		gauge(memoryDesc, float64(st.Memory))
		count(trapsDesc, st.Traps)
		count(limitsDesc, st.Limits)
		count(callsDesc, st.CryptoCalls, cryptography)
		count(callsDesc, st.HostCalls-st.CryptoCalls, otherCalls)
	}
}
