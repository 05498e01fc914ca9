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
	Rate   float64 // connections opened per second, one at a time
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
	fresh, err := p.usage()
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
		if err := sleep(ctx, min(watch, maxSettle)); err != nil {
			return out, err
		}
		before, err := p.usage()
		if err != nil {
			return out, err
		}
		if err := sleep(ctx, watch); err != nil {
			return out, err
		}
		after, err := p.usage()
		if err != nil {
			return out, err
		}
		state := Idle{Conns: n, Rate: rate}
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
		out = append(out, state)
	}
	return out, checkAlive(ctx, links, p.Timeout)
}

// usage reads both processes, nil for one that the path does not have.
func (p *Path) usage() ([2]*Usage, error) {
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
