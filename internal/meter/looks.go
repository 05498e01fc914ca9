package meter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Looks counts looks at a repository of modules. It is safe for concurrent use.
type Looks struct {
	total             *prometheus.CounterVec
	verified, expires prometheus.Gauge
}

// Outcomes of a look, as shown in its counter.
const (
	lookVerified = "verified"
	lookFailed   = "failed"
)

// Looks makes the figures of looks appear. It is called once.
func (m *Meter) Looks() *Looks {
	const repository = prefix + "repository_"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: repository + name, Help: help})
	}
	l := &Looks{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: repository + "looks_total", Help: "Looks at the repository of modules, by outcome.",
		}, []string{"outcome"}),
		verified: gauge("verified_timestamp_seconds", "When the repository was last verified, 0 if it has not been."),
		expires:  gauge("expires_timestamp_seconds", "When the first of its metadata expires, 0 if that is not known."),
	}
	l.total.WithLabelValues(lookVerified)
	l.total.WithLabelValues(lookFailed)
	m.registry.MustRegister(l.total, l.verified, l.expires)
	return l
}

// Verified counts a look at which all was verified, which is good until expires.
func (l *Looks) Verified(at, expires time.Time) {
	l.total.WithLabelValues(lookVerified).Inc()
	l.verified.Set(float64(at.Unix()))
	l.expires.Set(float64(expires.Unix()))
}

// Failed counts a look that failed.
func (l *Looks) Failed() { l.total.WithLabelValues(lookFailed).Inc() }
