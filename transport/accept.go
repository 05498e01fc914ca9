package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// maxPending bounds the connections of one listener whose set-up is under way, if
// each has an instance of its own. Further ones wait in the kernel's queue.
const maxPending = 256

// acceptor accepts connections and sets each up in a goroutine of its own, so
// that a slow or hostile peer delays nobody else.
type acceptor struct {
	inner   net.Listener
	log     *slog.Logger
	setUp   func(ctx context.Context, conn net.Conn, ready func())
	pending chan struct{} // a token for each set-up under way
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	stopped sync.Once
	err     error // why accepting ended; set before ctx ends
}

// accept starts to accept, with at most so many set-ups at once. setUp owns its
// connection; it calls ready once the set-up is over, and may go on after that.
func accept(inner net.Listener, log *slog.Logger, pending int, setUp func(ctx context.Context, conn net.Conn, ready func())) *acceptor {
	a := &acceptor{inner: inner, log: log, setUp: setUp, pending: make(chan struct{}, pending)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.running.Go(a.loop)
	return a
}

func (a *acceptor) loop() {
	const longest = time.Second
	var pause time.Duration
	for {
		select {
		case a.pending <- struct{}{}:
		case <-a.ctx.Done():
			return
		}
		conn, err := a.inner.Accept()
		if err == nil {
			pause = 0
			a.running.Go(func() {
				ready := sync.OnceFunc(func() { <-a.pending })
				defer ready()
				a.setUp(a.ctx, conn, ready)
			})
			continue
		}
		<-a.pending
		if errors.Is(err, net.ErrClosed) {
			_ = a.stop(err) // it is closed already
			return
		}
		// Out of descriptors, or a connection that died in the queue: it passes.
		pause = min(max(2*pause, 5*time.Millisecond), longest)
		kind, _ := Kind(err)
		a.log.Warn("cannot accept", KindKey, kind, "error", Scrub(err), "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-a.ctx.Done():
			return
		}
	}
}

// stop ends accepting and the set-ups under way.
func (a *acceptor) stop(cause error) (err error) {
	a.stopped.Do(func() {
		a.err = cause
		err = a.inner.Close()
		a.cancel()
	})
	return err
}
