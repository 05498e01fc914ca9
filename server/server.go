// Package server is the server side of a pluggable transport: a listener for
// each transport, whose connections are carried through its module to tor's
// ORPort or Extended ORPort.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/meter"
	"waterproxy/transport"
)

// orTimeout bounds connecting to tor, which is on this machine or near it, and
// authenticating.
const orTimeout = 10 * time.Second

// Listener carries one transport's connections to tor.
type Listener struct {
	name  string
	inner net.Listener
	args  transport.Args
	or    ORPort
	log   *slog.Logger
	meter *meter.Meter
	conns sync.WaitGroup

	mu     sync.Mutex
	ln     *transport.Listener // nil as long as the module is not loaded
	closed bool
}

// Listen starts to listen at an address for clients of a transport. The module
// must offer the server role, and is started to see that it does start. or says
// where tor is.
func Listen(ctx context.Context, name string, cfg transport.Config, addr *net.TCPAddr, or ORPort, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	l, err := listen(name, addr, or, log, m)
	if err != nil {
		return nil, err
	}
	if err := l.start(ctx, cfg, l.inner); err != nil {
		return nil, errors.Join(err, l.inner.Close())
	}
	l.args = l.ln.Args()
	l.conns.Go(l.acceptLoop)
	return l, nil
}

func listen(name string, addr *net.TCPAddr, or ORPort, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	network := "tcp"
	if addr.IP.To4() != nil { // Go would listen on IPv6 too for 0.0.0.0
		network = "tcp4"
	}
	inner, err := net.ListenTCP(network, addr)
	if err != nil {
		return nil, err
	}
	return &Listener{name: name, inner: inner, or: or, log: log.With("transport", name), meter: m}, nil
}

// start starts the module on a listener.
func (l *Listener) start(ctx context.Context, cfg transport.Config, inner net.Listener) error {
	cfg.Logger = l.log
	ln, err := transport.Listen(ctx, cfg, inner)
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
	l.meter.Offer(l.name, ln)
	return nil
}

// Addr returns the address that clients connect to.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Args returns the arguments that clients need (pt-spec 3.3.3), nil if none.
func (l *Listener) Args() pt.Args { return pt.Args(l.args) }

// Close stops listening and ends set-ups that are under way. Connections that
// are up live on; Wait waits for them.
func (l *Listener) Close() error {
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

// handle joins one client's connection to tor.
func (l *Listener) handle(conn transport.Conn) {
	or, err := l.or.dial(conn.RemoteAddr(), l.name)
	if err != nil {
		l.meter.Refuse(l.name)
		l.log.Warn("cannot connect to tor's ORPort", "error", err) // no client's address is in it
		_ = conn.Abort()                                           // the client has been told nothing yet
		return
	}
	end := l.meter.Begin(l.name)
	err = conn.Splice(or)
	end(err)
	st := conn.Stats()
	l.log.Debug("connection ended", "sent", st.ToNetwork, "received", st.FromNetwork, "error", transport.Scrub(err))
}
