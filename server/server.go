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
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// dialTimeout bounds connecting to tor, or what takes its place, which is on this
// machine or near it.
const dialTimeout = 10 * time.Second

// Listener carries one transport's connections to tor, or to where the operator
// wants them.
type Listener struct {
	name  string
	ln    *transport.Listener
	to    backend
	log   *slog.Logger
	meter *meter.Meter
	conns sync.WaitGroup
}

// backend is where connections go.
type backend struct {
	what string // for the log
	dial func(client net.Addr) (net.Conn, error)
}

// Listen starts to listen at an address for clients of a transport. The module
// must offer the server role, and is started to see that it does start. or says
// where tor is.
func Listen(ctx context.Context, name string, cfg transport.Config, addr *net.TCPAddr, or *pt.ServerInfo, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	tor := backend{"tor's ORPort", func(client net.Addr) (net.Conn, error) {
		return pt.DialOrWithDialer(&net.Dialer{Timeout: dialTimeout}, or, client.String(), name)
	}}
	return listen(ctx, name, cfg, addr, tor, log, m)
}

// Forward is Listen without tor: what clients send goes to a TCP address.
func Forward(ctx context.Context, name string, cfg transport.Config, addr *net.TCPAddr, to string, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	service := backend{"the address to forward to", func(net.Addr) (net.Conn, error) {
		return net.DialTimeout("tcp", to, dialTimeout)
	}}
	return listen(ctx, name, cfg, addr, service, log, m)
}

func listen(ctx context.Context, name string, cfg transport.Config, addr *net.TCPAddr, to backend, log *slog.Logger, m *meter.Meter) (*Listener, error) {
	log = log.With("transport", name)
	cfg.Logger = log
	network := "tcp"
	if addr.IP.To4() != nil { // Go would listen on IPv6 too for 0.0.0.0
		network = "tcp4"
	}
	inner, err := net.ListenTCP(network, addr)
	if err != nil {
		return nil, err
	}
	ln, err := transport.Listen(ctx, cfg, inner)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	l := &Listener{name: name, ln: ln, to: to, log: log, meter: m}
	m.Offer(name, ln)
	l.conns.Go(l.acceptLoop)
	return l, nil
}

// Addr returns the address that clients connect to.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Args returns the arguments that clients need (pt-spec 3.3.3), nil if none.
func (l *Listener) Args() pt.Args { return pt.Args(l.ln.Args()) }

// Reload carries new connections with another configuration; if that does not
// start, nothing changes.
func (l *Listener) Reload(ctx context.Context, cfg transport.Config) error {
	cfg.Logger = l.log
	before := l.ln.Args().String()
	if err := l.ln.Reload(ctx, cfg); err != nil {
		return err
	}
	if l.ln.Args().String() != before {
		l.log.Warn("the new version wants other arguments of its clients than they have been told; start the process again")
	}
	return nil
}

// Close stops listening and ends set-ups that are under way. Connections that
// are up live on; Wait waits for them.
func (l *Listener) Close() error { return l.ln.Close() }

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
	near, err := l.to.dial(conn.RemoteAddr())
	if err != nil {
		l.meter.Refuse(l.name)
		l.log.Warn("cannot connect to "+l.to.what, "error", err) // no client's address is in it
		_ = conn.Abort()                                         // the client has been told nothing yet
		return
	}
	end := l.meter.Begin(l.name, conn.SetupTime())
	err = conn.Splice(near)
	end(err)
	st := conn.Stats()
	client := ptlog.Address("client", conn.RemoteAddr().String())
	l.log.Debug("connection ended", client, "sent", st.ToNetwork, "received", st.FromNetwork, ptlog.Error(err))
}
