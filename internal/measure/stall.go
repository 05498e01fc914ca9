package measure

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallAfter is how long a write must have taken to count as blocked.
	stallAfter = 200 * time.Millisecond
	// stallMost is what a path may take in while nobody reads. More than that is
	// no back pressure at all.
	stallMost = 256 << 20
	// stallChunk is the size of the writes that fill the path.
	stallChunk = 32 << 10
)

// StallOptions sizes [MeasureStall].
type StallOptions struct {
	Conns  int `json:"conns"`   // that carry round trips
	AtOnce int `json:"at_once"` // round trips under way
	Pings  int `json:"pings"`   // round trips in a turn
	Turns  int `json:"turns"`   // of either kind
}

// Stall is the outcome of [MeasureStall]: the medians over the turns.
type Stall struct {
	Free    Spread // round trips when nothing was in their way
	Stalled Spread // round trips beside a connection that has stalled
}

// Ratio is how much longer the slowest round trips took beside the stalled
// connection.
func (s Stall) Ratio() float64 { return float64(s.Stalled.P99) / float64(s.Free.P99) }

// MeasureStall makes round trips over many connections, several at once, and
// takes turns: with nothing else going on, and beside one more connection whose
// user has written until it blocked, because its far end does not read.
func MeasureStall(ctx context.Context, p *Path, o StallOptions) (Stall, error) {
	links, err := p.OpenAll(ctx, o.Conns)
	defer func() { abortAll(links) }()
	if err != nil {
		return Stall{}, err
	}
	c := &crowd{free: make(chan *Link, len(links)), links: links}
	for _, l := range links {
		go echo(l.Far)
		c.free <- l
	}
	limit := p.Timeout + time.Duration(o.Pings)*time.Millisecond
	var free, stalled []Spread
	alone := func() error {
		s, err := c.trips(ctx, o, limit)
		free = append(free, s)
		return err
	}
	beside := func() (err error) {
		l, err := stall(ctx, p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.end(ctx)) }()
		s, err := c.trips(ctx, o, limit)
		stalled = append(stalled, s)
		return named("beside a stalled connection", err)
	}
	for turn := range o.Turns {
		order := []func() error{alone, beside}
		if turn%2 == 1 { // what a turn leaves behind must not hit one kind only
			order[0], order[1] = beside, alone
		}
		for _, f := range order {
			if err := f(); err != nil {
				return Stall{}, err
			}
		}
	}
	return Stall{medianSpread(free), medianSpread(stalled)}, nil
}

func medianSpread(all []Spread) Spread {
	var p50, p99 []float64
	for _, s := range all {
		p50, p99 = append(p50, float64(s.P50)), append(p99, float64(s.P99))
	}
	return Spread{P50: time.Duration(Quantile(p50, 0.5)), P99: time.Duration(Quantile(p99, 0.5))}
}

// crowd is the connections that carry round trips.
type crowd struct {
	links []*Link
	free  chan *Link // those over which nothing is under way, the longest idle first
	seed  atomic.Uint64
}

// trips makes one turn's round trips, each over the connection whose turn it is.
func (c *crowd) trips(ctx context.Context, o StallOptions, limit time.Duration) (Spread, error) {
	abort := func() { abortAll(c.links) }
	return within(ctx, limit, abort, func() (Spread, error) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		var first error
		var left atomic.Int64
		left.Store(int64(o.Pings))
		for range min(o.AtOnce, len(c.links)) {
			wg.Go(func() {
				var own []time.Duration
				var err error
				for err == nil && left.Add(-1) >= 0 {
					l := <-c.free
					var d time.Duration
					d, err = roundTrip(l.Near, c.seed.Add(1))
					own = append(own, d)
					c.free <- l
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, own...)
				if first == nil {
					first = err
				}
			})
		}
		wg.Wait()
		return spread(took), first
	})
}

// CheckBackPressure writes to a connection that nobody reads until a write blocks, and
// returns how many bytes the path has taken by then. It is an error if it takes too many to
// have any back-pressure.
func CheckBackPressure(ctx context.Context, p *Path) (taken int64, err error) {
	l, err := stall(ctx, p)
	if err != nil {
		return 0, err
	}
	return l.taken.Load(), l.end(ctx)
}

// stalledLink is a link whose near end is blocked in a write.
type stalledLink struct {
	*Link
	taken atomic.Int64  // bytes, by all writes so far
	wrote chan struct{} // closed when the writer has ended
}

// stall opens a link and writes until it blocks.
func stall(ctx context.Context, p *Path) (*stalledLink, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	s := &stalledLink{Link: l, wrote: make(chan struct{})}
	writes := make(chan struct{}) // closed when the writer runs, which may take long on a busy machine
	go func() {
		defer close(s.wrote)
		close(writes)
		for chunk := incompressible(stallChunk); ; {
			n, err := l.Near.Write(chunk)
			s.taken.Add(int64(n))
			if err != nil {
				return // end has closed it, or else the wait below reports it
			}
		}
	}()
	<-writes
	for before := int64(-1); s.taken.Load() != before; {
		before = s.taken.Load()
		select {
		case <-time.After(stallAfter):
		case <-s.wrote:
			return nil, errors.Join(errors.New("the connection that was to stall broke"), s.end(ctx))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.end(ctx))
		}
		if before > stallMost {
			err := fmt.Errorf("%d MB were taken although nobody reads them", before/1e6)
			return nil, errors.Join(err, s.end(ctx))
		}
	}
	return s, nil
}

// end breaks the link and waits until its writer has noticed. The far end goes
// first: nothing that it has not read is to be delivered any more.
func (s *stalledLink) end(ctx context.Context) error {
	_ = s.Far.Close() // it is broken on purpose
	_ = s.CloseNear(ctx)
	select {
	case <-s.wrote:
		return nil
	case <-time.After(hangupLimit):
		return fmt.Errorf("%w: a blocked write goes on after both ends were closed", ErrTimeout)
	}
}
