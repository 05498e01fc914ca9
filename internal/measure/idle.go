package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxSettle is how long after the last of the idle connections was opened the
// watching starts, unless the watching itself is shorter.
const maxSettle = time.Second

// IdleProcess is what idle connections cost one process.
type IdleProcess struct {
	Usage
	RSSPerConn float64 // growth of the resident bytes, per connection
	CPUPercent float64 // of one core, while nothing was sent
}

// Idle is the state of both processes with n connections open.
type Idle struct {
	Conns  int
	Rate   float64 // connections opened per second
	Client *IdleProcess
	Server *IdleProcess
}

// MeasureIdle opens connections until counts[0] are open, watches both processes
// while nothing is sent, then goes on to counts[1] and so on. At the end every
// connection must still carry bytes in both directions.
func MeasureIdle(ctx context.Context, p *Path, counts []int, watch time.Duration) ([]Idle, error) {
	var out []Idle
	var links []*Link
	defer func() { abortAll(links) }()
	fresh, err := p.loaded(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range counts {
		begin, had := time.Now(), len(links)
		more, err := p.OpenAll(ctx, n-had)
		links = append(links, more...)
		if err != nil {
			return out, fmt.Errorf("with %d open: %w", len(links), err)
		}
		rate := float64(len(more)) / time.Since(begin).Seconds()
		state, err := p.WatchIdle(ctx, n, fresh, watch)
		if err != nil {
			return out, err
		}
		state.Rate = rate
		out = append(out, state)
	}
	return out, checkAlive(ctx, links, p.Timeout)
}

// loaded is the state of both processes after a first connection, for which they may
// have loaded what all others use.
func (p *Path) loaded(ctx context.Context) (fresh [2]*Usage, err error) {
	first, err := p.OpenAll(ctx, 1)
	abortAll(first)
	if err != nil {
		return fresh, err
	}
	if err := sleep(ctx, maxSettle); err != nil {
		return fresh, err
	}
	return p.Usage()
}

// WatchIdle watches the path's processes while nothing is sent. fresh is their
// state before the n connections were opened.
func (p *Path) WatchIdle(ctx context.Context, n int, fresh [2]*Usage, watch time.Duration) (Idle, error) {
	state := Idle{Conns: n}
	if err := sleep(ctx, min(watch, maxSettle)); err != nil {
		return state, err
	}
	before, err := p.Usage()
	if err != nil {
		return state, err
	}
	if err := sleep(ctx, watch); err != nil {
		return state, err
	}
	after, err := p.Usage()
	if err != nil {
		return state, err
	}
	for i, dst := range []**IdleProcess{&state.Client, &state.Server} {
		if after[i] == nil {
			continue
		}
		*dst = &IdleProcess{
			Usage:      *after[i],
			RSSPerConn: float64(after[i].RSS-fresh[i].RSS) / float64(n),
			CPUPercent: (after[i].CPU - before[i].CPU).Seconds() / watch.Seconds() * 100,
		}
	}
	return state, nil
}

// Usage reads both processes, the client first; nil for one that the path does
// not have.
func (p *Path) Usage() ([2]*Usage, error) {
	var out [2]*Usage
	for i, proc := range []*Process{p.Client, p.Server} {
		if proc == nil {
			continue
		}
		u, err := proc.Usage()
		if err != nil {
			return out, err
		}
		out[i] = &u
	}
	return out, nil
}

// IdleMetrics are those of [Idle.Sample]; the processes are named in the labels.
func IdleMetrics(n int, client, server string) []Metric {
	key := func(what string) string { return fmt.Sprintf("idle%d_%s", n, what) }
	about := func(what string) string { return fmt.Sprintf("%d idle connections: %s", n, what) }
	var out []Metric
	for _, process := range []struct{ key, label string }{{"client", client}, {"server", server}} {
		out = append(out,
			Metric{Key: key(process.key + "_rss"), Label: about("RSS per connection, " + process.label), Unit: "kB", Better: Lower},
			Metric{Key: key(process.key + "_total"), Label: about("RSS in all, " + process.label), Unit: "MB", Better: Lower},
			Metric{Key: key(process.key + "_threads"), Label: about("OS threads, " + process.label), Better: Lower},
			Metric{Key: key(process.key + "_fds"), Label: about("descriptors, " + process.label)},
			Metric{Key: key(process.key + "_cpu"), Label: about("CPU while idle, " + process.label), Unit: "%"})
	}
	return append(out, Metric{Key: key("rate"), Label: about("opened per second"), Unit: "1/s", Better: Higher})
}

// Sample returns the state by the keys of [IdleMetrics].
func (s Idle) Sample() Sample {
	out := Sample{fmt.Sprintf("idle%d_rate", s.Conns): s.Rate}
	for side, proc := range map[string]*IdleProcess{"client": s.Client, "server": s.Server} {
		if proc == nil {
			continue
		}
		key := fmt.Sprintf("idle%d_%s", s.Conns, side)
		out[key+"_rss"] = proc.RSSPerConn / 1e3
		out[key+"_total"] = float64(proc.RSS) / 1e6
		out[key+"_threads"] = float64(proc.Threads)
		out[key+"_fds"] = float64(proc.FDs)
		out[key+"_cpu"] = proc.CPUPercent
	}
	return out
}

// checkAlive sends one byte each way on every link.
func checkAlive(ctx context.Context, links []*Link, limit time.Duration) error {
	var dead int
	var first error
	for i, l := range links {
		_, err := within(ctx, limit, l.Abort, func() (struct{}, error) {
			return struct{}{}, errors.Join(oneByte(l.Near, l.Far, byte(i)), oneByte(l.Far, l.Near, byte(i)))
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if first == nil {
				first = err
			}
			if dead++; dead == 3 { // enough to know; each may cost the whole limit
				break
			}
		}
	}
	if first != nil {
		return fmt.Errorf("at least %d of %d connections were dead after idling: %w", dead, len(links), first)
	}
	return nil
}

func oneByte(w io.Writer, r io.Reader, b byte) error {
	if _, err := w.Write([]byte{b}); err != nil {
		return err
	}
	var got [1]byte
	if _, err := io.ReadFull(r, got[:]); err != nil {
		return err
	}
	if got[0] != b {
		return fmt.Errorf("%w: sent %#02x, got %#02x", ErrLost, b, got[0])
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
