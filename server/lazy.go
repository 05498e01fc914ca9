package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"waterproxy/internal/meter"
	"waterproxy/transport"
)

// retryPause is how long the next connection waits after a module has failed to load.
const retryPause = time.Second

// ListenLazily is Listen for a module that is known to start, and to publish these
// arguments. It is loaded when the first client comes. loaded is told how that went,
// with what it has published.
func ListenLazily(ctx context.Context, name string, load func() (transport.Config, error), args transport.Args, loaded func(transport.Args, error), addr *net.TCPAddr, or ORPort, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	l, err := listen(name, addr, or, log, m)
	if err != nil {
		return nil, err
	}
	l.args = args
	m.Offer(name, noBytes{})
	l.conns.Go(func() {
		if l.awaitFirst(ctx, load, loaded) {
			l.acceptLoop()
		}
	})
	return l, nil
}

// noBytes is the count of a listener that has carried nothing.
type noBytes struct{}

func (noBytes) Stats() transport.Stats { return transport.Stats{} }

// awaitFirst loads the module when somebody connects. It reports whether it has.
func (l *Listener) awaitFirst(ctx context.Context, load func() (transport.Config, error), loaded func(transport.Args, error)) bool {
	for {
		first, err := l.inner.Accept()
		if errors.Is(err, net.ErrClosed) {
			return false
		}
		if err == nil {
			err = l.loadFor(ctx, first, load)
			if err == nil {
				loaded(l.ln.Args(), nil)
				return true
			}
			_ = first.Close() // it has carried nothing
			if ctx.Err() != nil {
				return false
			}
			loaded(nil, err)
		} else {
			l.log.Warn("cannot accept", "error", transport.Scrub(err))
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return false
		}
	}
}

// loadFor loads the module, whose first connection is there already.
func (l *Listener) loadFor(ctx context.Context, first net.Conn, load func() (transport.Config, error)) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	return l.start(ctx, cfg, &resumed{Listener: l.inner, first: first})
}

// resumed is a listener that has accepted one connection before.
type resumed struct {
	net.Listener
	mu    sync.Mutex
	first net.Conn // nil once it is taken
}

func (r *resumed) Accept() (net.Conn, error) {
	r.mu.Lock()
	first := r.first
	r.first = nil
	r.mu.Unlock()
	if first != nil {
		return first, nil
	}
	return r.Listener.Accept()
}
