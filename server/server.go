// Package server is the server side of a pluggable transport: a listener for
// each transport, whose connections are carried through its module to tor's
// ORPort or Extended ORPort, or, without tor, to an address of the operator's choice.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Listener carries one transport's connections to tor, or to where the operator
// wants them.
type Listener struct {
	name   string
	inner  *peeked
	to     Backend
	log    *slog.Logger
	meter  *meter.Meter
	ctx    context.Context
	cancel context.CancelFunc
	conns  sync.WaitGroup

	mu        sync.Mutex
	ln        *transport.Listener // nil before the first Reload
	args      transport.Args
	announced bool // clients know args
	closed    bool
}

// Listen returns a listener at an address for clients of a transport, whose connections
// go to a backend. Reload gives it the module, and Serve or ServeLater begins to
// carry them.
func Listen(ctx context.Context, name string, addr *net.TCPAddr, to Backend, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	network := "tcp"
	if addr.IP.To4() != nil { // Go would listen on IPv6 too for 0.0.0.0
		network = "tcp4"
	}
	inner, err := net.ListenTCP(network, addr)
	if err != nil {
		return nil, err
	}
	l := &Listener{name: name, inner: &peeked{Listener: inner}, to: to, log: log.With("transport", name), meter: m}
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l, nil
}

// Serve carries connections, after a Reload.
func (l *Listener) Serve() {
	l.announced = true
	l.meter.Offer(l.name, l)
	l.conns.Go(l.acceptLoop)
}

// ServeLater is Serve for a module that has started before, and published these
// arguments then. load is to call Reload; it is called when the first client comes, and
// again after an error.
func (l *Listener) ServeLater(load func(context.Context) error, args transport.Args) {
	l.args, l.announced = args, true
	l.meter.Offer(l.name, l)
	l.conns.Go(func() {
		if l.awaitFirst(load) {
			l.acceptLoop()
		}
	})
}

// Reload carries new connections with a configuration; if that does not start,
// nothing changes. The module must offer the server role. Only one Reload may be under
// way.
func (l *Listener) Reload(ctx context.Context, cfg transport.Config) error {
	cfg.Logger = l.log
	ln := l.current()
	if ln == nil {
		return l.start(ctx, cfg)
	}
	if err := ln.Reload(ctx, cfg); err != nil {
		return err
	}
	l.publish(ln.Args())
	return nil
}

// start is the first Reload.
func (l *Listener) start(ctx context.Context, cfg transport.Config) error {
	ln, err := transport.Listen(ctx, cfg, l.inner)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = ln.Close() // so is what it listens on
		return net.ErrClosed
	}
	l.ln = ln
	l.publish(ln.Args())
	return nil
}

// publish takes note of the arguments that the module wants of its clients.
func (l *Listener) publish(args transport.Args) {
	switch {
	case !l.announced:
		l.args = args
	case args.String() != l.args.String():
		l.log.Warn("the module wants other arguments of its clients than those that were announced; start the process again")
	}
}

func (l *Listener) current() *transport.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ln
}

// Stats implements [meter.Source].
func (l *Listener) Stats() transport.Stats {
	if ln := l.current(); ln != nil {
		return ln.Stats()
	}
	return transport.Stats{}
}

// Usage implements [meter.Source].
func (l *Listener) Usage() transport.Usage {
	if ln := l.current(); ln != nil {
		return ln.Usage()
	}
	return transport.Usage{}
}

// Addr returns the address that clients connect to.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Args returns the arguments that clients need (pt-spec 3.3.3), nil if none, as they
// were when serving began.
func (l *Listener) Args() pt.Args { return pt.Args(l.args) }

// Published returns the arguments that the present version of the module wants.
func (l *Listener) Published() transport.Args {
	if ln := l.current(); ln != nil {
		return ln.Args()
	}
	return nil
}

// Close stops listening and ends set-ups that are under way. Connections that
// are up live on; Wait waits for them.
func (l *Listener) Close() error {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.ln != nil {
		return l.ln.Close()
	}
	return l.inner.Close()
}

// Wait returns when every connection has ended.
func (l *Listener) Wait() { l.conns.Wait() }

func (l *Listener) acceptLoop() {
	for {
		conn, err := l.ln.AcceptRuntime()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.log.Error("no longer accepting", "error", transport.Scrub(err))
			}
			return
		}
		l.conns.Go(func() { l.handle(conn) })
	}
}

// handle joins one client's connection to tor, or to what takes its place.
func (l *Listener) handle(conn transport.Conn) {
	near, err := l.to.dial(conn.RemoteAddr(), l.name)
	if err != nil {
		l.meter.Refuse(l.name)
		kind, _ := transport.Kind(err)
		kind = l.to.String() + ": " + kind
		l.log.Warn("cannot connect to "+l.to.String(), transport.KindKey, kind, "error", err) // no client's address is in it
		_ = conn.Abort()                                                                      // the client has no reply yet
		return
	}
	end := l.meter.Begin(l.name, conn.SetupTime())
	err = conn.Splice(near)
	end(err)
	st := conn.Stats()
	client := ptlog.Address("client", conn.RemoteAddr().String())
	l.log.Debug("connection ended", client, "sent", st.ToNetwork, "received", st.FromNetwork, ptlog.Error(err))
}
