package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// hangupLimit is how long the close of a near end may take to reach the far end.
const hangupLimit = 5 * time.Second

// Setups is the outcome of [MeasureSetups].
type Setups struct {
	First  Spread // from the dial to the first byte from the far end
	Dial   Spread // of that, the dial
	Direct Spread // a TCP dial to the same origin, in turn with the others
}

// MeasureSetups opens n connections one after the other, or as many as it can
// begin within limit, and one of plain TCP beside each. Each is closed at its
// near end, in no one's time, before the next is opened; it is an error if a far
// end does not see that.
func MeasureSetups(ctx context.Context, p *Path, n int, limit time.Duration) (Setups, error) {
	var hangups hangupWatch
	var first, dial, direct []time.Duration
	plain := p.direct()
	begin := time.Now()
	for i := 0; i < n && (i == 0 || time.Since(begin) < limit); i++ {
		l, err := openAndClose(ctx, p, &hangups)
		if err != nil {
			return Setups{}, fmt.Errorf("connection %d: %w", i+1, err)
		}
		first, dial = append(first, l.Setup), append(dial, l.Dialed)
		if l, err = openAndClose(ctx, plain, &hangups); err != nil {
			return Setups{}, fmt.Errorf("TCP connection %d: %w", i+1, err)
		}
		direct = append(direct, l.Dialed)
	}
	return Setups{spread(first), spread(dial), spread(direct)}, hangups.wait()
}

// openAndClose opens a link, whose times are good afterwards, and closes it.
func openAndClose(ctx context.Context, p *Path, hangups *hangupWatch) (*Link, error) {
	l, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	if p.KeepsOpen {
		return l, errors.Join(l.Far.Close(), l.CloseNear(ctx))
	}
	hangups.expect(l)
	return l, l.CloseNear(ctx)
}

// MeasureSetupRate has several workers open n connections in all, or as many as
// they can begin within limit but each at least one, each closing one before it opens the next, and
// returns how many that makes in a second.
func MeasureSetupRate(ctx context.Context, p *Path, n, workers int, limit time.Duration) (float64, error) {
	var hangups hangupWatch
	var left, done, failed atomic.Int64
	var firstErr error
	var once sync.Once
	var wg sync.WaitGroup
	left.Store(int64(n))
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for i := 0; left.Add(-1) >= 0 && (i == 0 || time.Since(begin) < limit) && ctx.Err() == nil; i++ {
				if _, err := openAndClose(ctx, p, &hangups); err != nil {
					failed.Add(1)
					once.Do(func() { firstErr = err })
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if bad := failed.Load(); bad > 0 {
		return 0, fmt.Errorf("%d of %d connections, %d at a time: %w", bad, done.Load(), workers, firstErr)
	}
	return float64(done.Load()) / elapsed.Seconds(), hangups.wait()
}

// hangupWatch checks that every far end notices that its near end was closed.
type hangupWatch struct {
	wg    sync.WaitGroup
	total atomic.Int64
	bad   atomic.Int64
}

// expect waits in the background for the far end to see the close that its caller
// is about to make.
func (h *hangupWatch) expect(l *Link) {
	h.total.Add(1)
	h.wg.Go(func() {
		defer l.Far.Close()
		if err := l.Far.SetReadDeadline(time.Now().Add(hangupLimit)); err != nil {
			h.bad.Add(1)
			return
		}
		// An end of stream and a reset both tell the far end.
		_, err := io.Copy(io.Discard, l.Far)
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			h.bad.Add(1)
		}
	})
}

func (h *hangupWatch) wait() error {
	h.wg.Wait()
	if bad := h.bad.Load(); bad > 0 {
		return fmt.Errorf("%d of %d closes did not reach the far end in %v", bad, h.total.Load(), hangupLimit)
	}
	return nil
}
