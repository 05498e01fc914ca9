package measure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Better is the direction in which a metric improves.
type Better string

// The directions of improvement. A Neutral metric is for information and gets no
// ratio.
const (
	Higher  Better = "higher"
	Lower   Better = "lower"
	Neutral Better = ""
)

// Metric describes one number that a test yields.
type Metric struct {
	Key    string `json:"key"`   // names it in samples and in JSON
	Label  string `json:"label"` // names it in tables
	Unit   string `json:"unit"`
	Better Better `json:"better,omitempty"`
	// Of makes it a count of successes out of so many.
	Of int `json:"of,omitempty"`
}

// Sample is what one round of a test yielded, by metric key. A metric that does
// not apply, such as the server's memory where there is no server, is missing.
type Sample map[string]float64

// Test is one test of the suite.
type Test struct {
	Name  string
	About string
	// Once means that repeating it adds time and no knowledge.
	Once bool
	// Fresh means that what an earlier round leaves behind in a process would
	// falsify the next one.
	Fresh   bool
	Metrics []Metric
	// Run measures one round. The sample holds what was measured before an error.
	Run func(ctx context.Context, p *Path, round int) (Sample, error)
}

// Suite returns the tests, sized by o, in the order in which they are best run.
func Suite(o Options) []Test {
	label := labels{client: "client", server: "server"}
	if o.OneSided {
		label.client = "process"
	}
	return []Test{
		setupTest(o),
		setupRateTest(o),
		pingTest(o),
		label.bulkTest(o, "up1", "upload, 1 connection", Up, 1),
		label.bulkTest(o, "down1", "download, 1 connection", Down, 1),
		label.bulkTest(o, "upN", fmt.Sprintf("upload, %d connections", o.Parallel), Up, o.Parallel),
		label.bulkTest(o, "downN", fmt.Sprintf("download, %d connections", o.Parallel), Down, o.Parallel),
		label.bulkTest(o, "duplex", "both directions at once, 1 connection, sum", Duplex, 1),
		integrityTest(o),
		closingTest(o),
		label.slowTest(o),
		stallTest(o.Stall),
		label.idleTest(o),
	}
}

func setupTest(o Options) Test {
	return Test{
		Name:  "setup",
		About: "time of the dial, and to the first byte from the far end, one connection at a time",
		Metrics: []Metric{
			{Key: "setup_p50", Label: "set-up to first byte, p50", Unit: "ms", Better: Lower},
			{Key: "setup_p99", Label: "set-up to first byte, p99", Unit: "ms", Better: Lower},
			{Key: "dial_p50", Label: "dial, p50", Unit: "ms", Better: Lower},
			{Key: "dial_p99", Label: "dial, p99", Unit: "ms", Better: Lower},
			{Key: "dial_added_p50", Label: "dial, beyond a TCP dial beside it, p50", Unit: "ms"},
			{Key: "dial_added_p99", Label: "dial, beyond a TCP dial beside it, p99", Unit: "ms"},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			s, err := MeasureSetups(ctx, p, o.Setups, o.Limit)
			if err != nil {
				return nil, err
			}
			return Sample{
				"setup_p50": ms(s.First.P50), "setup_p99": ms(s.First.P99),
				"dial_p50": ms(s.Dial.P50), "dial_p99": ms(s.Dial.P99),
				"dial_added_p50": ms(s.Dial.P50 - s.Direct.P50), "dial_added_p99": ms(s.Dial.P99 - s.Direct.P99),
			}, nil
		},
	}
}

func setupRateTest(o Options) Test {
	return Test{
		Name:  "rate",
		About: "connections set up per second by several workers at once",
		Metrics: []Metric{
			{Key: "setup_rate", Label: fmt.Sprintf("set-ups per second, %d workers", o.Workers), Unit: "1/s", Better: Higher},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			rate, err := MeasureSetupRate(ctx, p, o.Setups, o.Workers, o.Limit)
			if err != nil {
				return nil, err
			}
			return Sample{"setup_rate": rate}, nil
		},
	}
}

func pingTest(o Options) Test {
	return Test{
		Name:  "ping",
		About: "64-byte round trips over one connection",
		Metrics: []Metric{
			{Key: "ping_p50", Label: "64 B round trip, p50", Unit: "us", Better: Lower},
			{Key: "ping_p99", Label: "64 B round trip, p99", Unit: "us", Better: Lower},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			s, err := MeasurePings(ctx, p, o.Pings)
			if err != nil {
				return nil, err
			}
			return Sample{"ping_p50": us(s.P50), "ping_p99": us(s.P99)}, nil
		},
	}
}

func integrityTest(o Options) Test {
	return Test{
		Name:  "integrity",
		About: "random bytes echoed in pieces of random length, compared by SHA-256",
		Metrics: []Metric{
			{Key: "integrity", Label: fmt.Sprintf("%d MiB echoed in random pieces, SHA-256 equal", o.Echo>>20), Of: 1},
		},
		Run: func(ctx context.Context, p *Path, round int) (Sample, error) {
			if _, err := CheckIntegrity(ctx, p, o.Echo, uint64(round)+1, time.Minute); err != nil {
				return nil, err
			}
			return Sample{"integrity": 1}, nil
		},
	}
}

func closingTest(o Options) Test {
	label := func(who string) string {
		return fmt.Sprintf("%s writes %d MiB and closes: all arrived", who, o.CloseSize>>20)
	}
	return Test{
		Name:  "close",
		About: "one end writes and closes at once: everything must arrive",
		Once:  true,
		Metrics: []Metric{
			{Key: "close_near", Label: label("client"), Of: o.Tries},
			{Key: "close_far", Label: label("origin"), Of: o.Tries},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			near, nearErr := CheckClosing(ctx, p, Up, o.CloseSize, o.Tries)
			far, farErr := CheckClosing(ctx, p, Down, o.CloseSize, o.Tries)
			out := Sample{"close_near": float64(near), "close_far": float64(far)}
			return out, errors.Join(named("client closes", nearErr), named("origin closes", farErr))
		},
	}
}

// labels names the processes of a path in labels.
type labels struct {
	client, server string
}

func (l labels) bulkTest(o Options, name, label string, d Direction, conns int) Test {
	metrics := []Metric{
		{Key: name, Label: label, Unit: "MB/s", Better: Higher},
		{Key: name + "_client_cpu", Label: label + ": CPU, " + l.client, Unit: "s/GB", Better: Lower},
		{Key: name + "_server_cpu", Label: label + ": CPU, " + l.server, Unit: "s/GB", Better: Lower},
	}
	if conns > 1 {
		metrics = append(metrics,
			Metric{Key: name + "_client_peak", Label: label + ": peak RSS, " + l.client, Unit: "MB", Better: Lower},
			Metric{Key: name + "_server_peak", Label: label + ": peak RSS, " + l.server, Unit: "MB", Better: Lower})
	}
	return Test{
		Name:    name,
		About:   label,
		Metrics: metrics,
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			b, err := MeasureBulk(ctx, p, BulkOptions{d, conns, o.Size, o.Limit, o.Chunk, stallLimit})
			if err != nil {
				return nil, err
			}
			out := Sample{name: b.MBps()}
			gb := float64(b.Bytes) / 1e9
			if p.Client != nil {
				out[name+"_client_cpu"] = b.Client.Seconds() / gb
			}
			if p.Server != nil {
				out[name+"_server_cpu"] = b.Server.Seconds() / gb
			}
			if conns > 1 {
				err = p.addPeaks(out, name+"_client_peak", name+"_server_peak")
			}
			return out, err
		},
	}
}

func (l labels) slowTest(o Options) Test {
	return Test{
		Name:  "slow",
		About: "a reader that pauses: everything must arrive, and nobody may hoard it",
		Once:  true,
		Metrics: []Metric{
			{Key: "slow_far", Label: fmt.Sprintf("%d MiB to a slow reader at the origin: all arrived", o.Slow.Size>>20), Of: 1},
			{Key: "slow_near", Label: fmt.Sprintf("%d MiB to a slow reader at the client: all arrived", o.Slow.Size>>20), Of: 1},
			{Key: "slow_far_held", Label: "slow reader: taken while the origin read nothing", Unit: "MB"},
			{Key: "slow_near_held", Label: "slow reader: taken while the client read nothing", Unit: "MB"},
			{Key: "slow_client_peak", Label: "slow reader: peak RSS, " + l.client, Unit: "MB", Better: Lower},
			{Key: "slow_server_peak", Label: "slow reader: peak RSS, " + l.server, Unit: "MB", Better: Lower},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			out := Sample{}
			var errs []error
			for _, c := range []struct {
				key string
				d   Direction
			}{{"slow_far", Up}, {"slow_near", Down}} {
				s, err := CheckSlowReader(ctx, p, c.d, o.Slow)
				out[c.key] = 1
				if err != nil {
					out[c.key] = 0
					errs = append(errs, named(c.key, err))
				}
				if s.Held > 0 {
					out[c.key+"_held"] = float64(s.Held) / 1e6
				}
			}
			errs = append(errs, p.addPeaks(out, "slow_client_peak", "slow_server_peak"))
			return out, errors.Join(errs...)
		},
	}
}

func stallTest(o StallOptions) Test {
	label := func(what string) string {
		return fmt.Sprintf("64 B round trip, %d connections, %d at once, %s", o.Conns, o.AtOnce, what)
	}
	return Test{
		Name:  "stall",
		About: "round trips over many connections, with and without one more that has stalled, in turn",
		Once:  true,
		Metrics: []Metric{
			{Key: "stall_free_p50", Label: label("p50"), Unit: "us", Better: Lower},
			{Key: "stall_free_p99", Label: label("p99"), Unit: "us", Better: Lower},
			{Key: "stall_p50", Label: label("beside a stalled one, p50"), Unit: "us", Better: Lower},
			{Key: "stall_p99", Label: label("beside a stalled one, p99"), Unit: "us", Better: Lower},
			{Key: "stall_ratio", Label: fmt.Sprintf("p99 beside a stalled connection to p99 without, medians of %d turns", o.Turns)},
		},
		Run: func(ctx context.Context, p *Path, _ int) (Sample, error) {
			s, err := MeasureStall(ctx, p, o)
			if err != nil {
				return nil, err
			}
			return Sample{
				"stall_free_p50": us(s.Free.P50), "stall_free_p99": us(s.Free.P99),
				"stall_p50": us(s.Stalled.P50), "stall_p99": us(s.Stalled.P99),
				"stall_ratio": s.Ratio(),
			}, nil
		},
	}
}

func (l labels) idleTest(o Options) Test {
	t := Test{Name: "idle", About: "what idle connections cost", Fresh: true}
	for _, n := range o.Idle {
		t.Metrics = append(t.Metrics, IdleMetrics(n, l.client, l.server)...)
	}
	t.Run = func(ctx context.Context, p *Path, _ int) (Sample, error) {
		states, err := MeasureIdle(ctx, p, o.Idle, o.IdleWatch)
		out := Sample{}
		for _, s := range states {
			maps.Copy(out, s.Sample())
		}
		return out, err
	}
	return t
}

// addPeaks stores the most memory that each process of the path ever held.
func (p *Path) addPeaks(out Sample, clientKey, serverKey string) error {
	u, err := p.Usage()
	if err != nil {
		return err
	}
	for i, key := range []string{clientKey, serverKey} {
		if u[i] != nil {
			out[key] = float64(u[i].PeakRSS) / 1e6
		}
	}
	return nil
}

func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

func us(d time.Duration) float64 { return d.Seconds() * 1e6 }
