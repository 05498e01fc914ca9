// Package client is the client side of a pluggable transport: for each transport
// a SOCKS5 listener, and for each request a connection through its module
// (pt-spec 3.5). Without tor, it carries an application's connections to one bridge.
package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"waterproxy/internal/acceptloop"
	"waterproxy/internal/crowd"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Proxy accepts the connections of tor, or of another application, and carries them
// over one transport.
type Proxy struct {
	name     string
	ln       net.Listener
	dialer   transport.Dialer
	frontend Frontend
	log      *slog.Logger
	meter    *meter.Meter
	ctx      context.Context
	cancel   context.CancelFunc
	conns    sync.WaitGroup
	// asking are the connections whose request has not come yet.
	asking *crowd.Crowd
}

// maxAsking bounds the connections whose request has not come yet. For another one the
// oldest of them is closed, but none before askingGrace has passed.
const (
	maxAsking   = 256
	askingGrace = time.Second
)

// Options are what a Proxy needs besides connections.
type Options struct {
	Transport string // its name, for the log and the figures
	Log       *slog.Logger
	Meter     *meter.Meter
}

// Serve accepts connections from ln, reads their requests as the frontend does, and
// carries them over d, until ctx ends or Close. The Proxy owns ln and d.
func Serve(ctx context.Context, ln net.Listener, d transport.Dialer, f Frontend, o Options) *Proxy {
	p := newProxy(ctx, ln, d, f, o)
	p.conns.Go(p.acceptLoop)
	return p
}

func newProxy(ctx context.Context, ln net.Listener, d transport.Dialer, f Frontend, o Options) *Proxy {
	p := &Proxy{
		name: o.Transport, ln: ln, dialer: d, frontend: f,
		log: o.Log.With("transport", o.Transport), meter: o.Meter, asking: crowd.New(maxAsking, askingGrace),
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// Addr returns the address that applications connect to.
func (p *Proxy) Addr() net.Addr { return p.ln.Addr() }

// Close stops listening and ends set-ups that are under way. Connections that
// are up live on; Wait waits for them.
func (p *Proxy) Close() error {
	p.cancel()
	return errors.Join(p.ln.Close(), p.dialer.Close())
}

// Wait returns when every connection has ended.
func (p *Proxy) Wait() { p.conns.Wait() }

// acceptLoop serves connections until the listener is closed.
func (p *Proxy) acceptLoop() {
	_ = acceptloop.Run(p.ctx, p.ln, func(conn net.Conn) {
		p.asking.Enter(conn)
		p.conns.Go(func() { p.handle(conn) })
	}, func(err error, pause time.Duration) {
		kind, _ := transport.Kind(err)
		p.log.Warn("cannot accept", transport.KindKey, kind, "error", transport.Scrub(err), "retry_in", pause)
	})
}

// handle serves one connection, from the application's request to the end.
func (p *Proxy) handle(raw net.Conn) {
	defer raw.Close()
	defer p.asking.Leave(raw)
	r, err := p.frontend.request(raw)
	switch {
	case errors.Is(err, errNoRequest): // as from a program that looks whether the port is open
		p.log.Debug("a connection to the SOCKS port ended before a request")
	case err != nil:
		p.log.Warn("the SOCKS port got no SOCKS5 request that it can carry out", transport.KindKey, err.Error())
	default:
		p.asking.Leave(raw)
		p.carry(raw, r)
	}
}

// carry connects to the target, unless the module chooses another, and joins an
// application's connection to that.
func (p *Proxy) carry(conn net.Conn, r request) {
	rc, err := p.dialer.Dial(p.ctx, "tcp", r.target, r.args)
	p.frontend.report(p.name, err)
	if err != nil {
		p.logFailed(r.target, err)
		if err := r.answer.RejectReason(reply(err)); err != nil {
			p.log.Debug("the SOCKS client left before the answer", ptlog.Error(err))
		}
		return
	}
	end := p.meter.Begin(p.name, rc.SetupTime())
	if err = r.answer.Grant(nil); err != nil {
		_ = rc.Abort() // it has not carried anything
	} else {
		err = rc.Splice(conn)
	}
	end(err)
	st := rc.Stats()
	p.log.Debug("connection ended", ptlog.Address("bridge", r.target), "sent", st.ToNetwork, "received", st.FromNetwork, ptlog.Error(err))
}

// logFailed logs why there is no connection.
func (p *Proxy) logFailed(target string, err error) {
	kind, _ := transport.Kind(err)
	if kind == transport.KindArguments {
		kind = transport.Scrub(err) // each mistake is worth a line; they are our user's, and few
	}
	level := slog.LevelWarn
	if p.ctx.Err() != nil { // the proxy itself has ended it
		level = slog.LevelDebug
	}
	p.log.Log(context.Background(), level, "cannot connect", transport.KindKey, kind, ptlog.Address("bridge", target), ptlog.Error(err))
}
