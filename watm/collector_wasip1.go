package watm

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// What an instance of many connections may have in garbage before Go collects it:
// half of what is alive, since the memory of thousands of idle connections counts,
// but no less than a few bytes per byte of traffic take some time to fill.
const (
	collectorPercent = 50
	collectorSlack   = 8 << 20
)

// tuneCollector sets the collector as above, now and after each collection.
func tuneCollector() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 0
	var tune func(*[16]byte)
	tune = func(*[16]byte) {
		metrics.Read(live)
		if percent := gcPercent(live[0].Value.Uint64()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		// A finalizer runs after the collection that finds its object dead.
		runtime.SetFinalizer(new([16]byte), tune)
	}
	tune(nil)
}

// gcPercent is what GOGC should be for a heap with so many bytes alive.
func gcPercent(live uint64) int {
	const least = 4 << 20 // Go takes a smaller heap for this size
	return int(max(collectorPercent, collectorSlack*100/max(live, least)))
}
