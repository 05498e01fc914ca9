package meter

import (
	"maps"
	"testing"
	"time"
)

// TestLooks: looks at a repository are counted by outcome, with what the last good one
// said.
func TestLooks(t *testing.T) {
	m := New()
	l := m.Looks()
	l.Failed()
	l.Verified(time.Unix(1000, 0), time.Unix(2000, 0))
	l.Failed()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := f.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"waterproxy_repository_looks_total verified":       1,
		"waterproxy_repository_looks_total failed":         2,
		"waterproxy_repository_verified_timestamp_seconds": 1000,
		"waterproxy_repository_expires_timestamp_seconds":  2000,
	}
	if !maps.Equal(got, want) {
		t.Errorf("the figures are %v, want %v", got, want)
	}
}
