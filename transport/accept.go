package transport

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"waterproxy/internal/acceptloop"
)

// acceptor accepts connections and sets each up in a goroutine of its own, so
// that a slow or hostile peer delays no other.
type acceptor struct {
	inner   net.Listener
	log     *slog.Logger
	setUp   func(ctx context.Context, conn net.Conn, ready func())
	pending places // of set-ups under way
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	stopped sync.Once
	err     error // why accepting ended; set before ctx ends
}

// accept starts to accept, with at most so many set-ups at once as limit returns then;
// further connections wait in the kernel's queue. setUp owns its connection; it calls
// ready once the set-up is over, and may go on after that.
func accept(inner net.Listener, log *slog.Logger, limit func() int, setUp func(ctx context.Context, conn net.Conn, ready func())) *acceptor {
	a := &acceptor{inner: inner, log: log, setUp: setUp, pending: places{limit: limit, changed: make(chan struct{}, 1)}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.running.Go(a.loop)
	return a
}

func (a *acceptor) loop() {
	err := acceptloop.Run(a.ctx, bounded{a}, func(conn net.Conn) {
		a.running.Go(func() {
			ready := sync.OnceFunc(a.pending.free)
			defer ready()
			a.setUp(a.ctx, conn, ready)
		})
	}, func(err error, pause time.Duration) {
		kind, _ := Kind(err)
		a.log.Warn("cannot accept", KindKey, kind, "error", Scrub(err), "retry_in", pause)
	})
	if err != nil {
		_ = a.stop(err) // it is closed already
	}
}

// bounded is the listener of an acceptor, from which a connection is taken only when
// its set-up may begin.
type bounded struct{ *acceptor }

func (b bounded) Accept() (net.Conn, error) {
	if !b.pending.take(b.ctx) {
		return nil, net.ErrClosed
	}
	conn, err := b.inner.Accept()
	if err != nil {
		b.pending.free()
	}
	return conn, err
}

func (b bounded) Close() error   { return b.inner.Close() }
func (b bounded) Addr() net.Addr { return b.inner.Addr() }

// stop ends accepting and the set-ups under way.
func (a *acceptor) stop(cause error) (err error) {
	a.stopped.Do(func() {
		a.err = cause
		err = a.inner.Close()
		a.cancel()
	})
	return err
}

// places are a limited number of something; the limit may change. One goroutine takes
// them.
type places struct {
	limit   func() int
	mu      sync.Mutex
	taken   int
	changed chan struct{} // of size 1
}

// take waits for a place. It reports whether there is one before ctx ends.
func (p *places) take(ctx context.Context) bool {
	for {
		p.mu.Lock()
		if p.taken < p.limit() {
			p.taken++
			p.mu.Unlock()
			return true
		}
		p.mu.Unlock()
		select {
		case <-p.changed:
		case <-ctx.Done():
			return false
		}
	}
}

// free gives a place back.
func (p *places) free() {
	p.mu.Lock()
	p.taken--
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}
