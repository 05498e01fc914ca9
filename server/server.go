// Package server is the server side of a pluggable transport: a listener for
// each transport, whose connections are carried through its module to tor's
// ORPort or Extended ORPort, or, without tor, to an address of the operator's choice.
package server

import (
	"errors"
	"log/slog"
	"net"
	"sync"

	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Listener carries one transport's connections to tor, or to the address that the
// operator chose.
type Listener struct {
	name  string
	ln    *transport.Listener
	to    Backend
	log   *slog.Logger
	meter *meter.Meter
	conns sync.WaitGroup
}

// Options are what a Listener needs besides connections.
type Options struct {
	Transport string // its name, for the log, the figures and tor
	Log       *slog.Logger
	Meter     *meter.Meter
}

// Listen listens for clients at an address.
func Listen(addr *net.TCPAddr) (net.Listener, error) {
	network := "tcp"
	if addr.IP.To4() != nil { // Go would listen on IPv6 too for 0.0.0.0
		network = "tcp4"
	}
	return net.ListenTCP(network, addr)
}

// Serve carries the connections of ln, which the Listener owns, to a backend until Close.
func Serve(ln *transport.Listener, to Backend, o Options) *Listener {
	l := &Listener{name: o.Transport, ln: ln, to: to, log: o.Log.With("transport", o.Transport), meter: o.Meter}
	l.conns.Go(l.acceptLoop)
	return l
}

// Addr returns the address that clients connect to.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

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
