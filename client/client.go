// Package client is the client side of a pluggable transport: for each transport
// a SOCKS5 listener, and for each request a connection through its module
// (pt-spec 3.5). Without tor, it carries an application's connections to one bridge.
package client

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/acceptloop"
	"waterproxy/internal/bridgeline"
	"waterproxy/internal/crowd"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Proxy accepts the connections of tor, or of another application, and carries them
// over one transport.
type Proxy struct {
	name   string
	ln     net.Listener
	log    *slog.Logger
	meter  *meter.Meter
	ctx    context.Context
	cancel context.CancelFunc
	// local is nil for tor, whose requests name the address to connect to.
	local *Local
	load  func(context.Context) error // calls Reload for the first connection
	conns sync.WaitGroup
	// asking are the connections whose SOCKS request has not come yet.
	asking *crowd.Crowd

	mu     sync.Mutex
	dialer *transport.ReloadableDialer // nil before the first Reload
	// timeout is the configuration's for set-ups. As a dial's deadline it gives
	// an error for which there is a reply code.
	timeout time.Duration
	closed  bool
}

// maxAsking bounds the connections whose SOCKS request has not come yet. For another one
// the oldest of them is closed, but none before askingGrace has passed.
const (
	maxAsking   = 256
	askingGrace = time.Second
)

// Local is where applications other than tor connect, and what they reach.
type Local struct {
	// Address is where they connect to.
	Address string
	// Bridge is where every connection goes.
	Bridge bridgeline.Line
	// SOCKS makes them ask in SOCKS5. For what, does not matter: the bridge decides
	// where it passes on connections. Otherwise all they send goes to the bridge.
	SOCKS bool
}

// Listen returns a proxy of a transport for tor, on a free loopback port. Reload gives
// it the module, and Serve begins to accept connections.
func Listen(ctx context.Context, name string, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	return listen(ctx, name, "127.0.0.1:0", nil, log, m)
}

// ListenLocal is Listen for applications other than tor, over the transport of a
// bridge line.
func ListenLocal(ctx context.Context, local Local, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	return listen(ctx, local.Bridge.Transport, local.Address, &local, log, m)
}

func listen(ctx context.Context, name, address string, local *Local, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{name: name, ln: ln, log: log.With("transport", name), meter: m, local: local, asking: crowd.New(maxAsking, askingGrace)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p, nil
}

// Reload carries new connections with a configuration; if that does not start,
// nothing changes. The module must offer the client role, or that of a client with an
// address of its own, and take the arguments of the bridge line if there is one. Connections share instances of it where it can do that and
// cfg.Instances does not forbid it. Only one Reload may be under way.
func (p *Proxy) Reload(ctx context.Context, cfg transport.Config) error {
	cfg.Logger = p.log
	if p.local != nil {
		if err := transport.CheckArgs(ctx, cfg, p.local.Bridge.Args); err != nil {
			return err
		}
	}
	d, _ := p.current()
	if d == nil {
		return p.start(ctx, cfg)
	}
	if err := d.Reload(ctx, cfg); err != nil {
		return err
	}
	return p.use(d, cfg)
}

// start is the first Reload.
func (p *Proxy) start(ctx context.Context, cfg transport.Config) error {
	d, err := transport.NewReloadableDialer(cfg)
	if err != nil {
		return err
	}
	if err = d.Start(ctx); err == nil {
		err = p.use(d, cfg)
	}
	if err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

// use dials new connections with d, which is closed with p from now on.
func (p *Proxy) use(d *transport.ReloadableDialer, cfg transport.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.dialer, p.timeout = d, cmp.Or(cfg.SetupTimeout, transport.DefaultSetupTimeout)
	return nil
}

func (p *Proxy) current() (*transport.ReloadableDialer, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialer, p.timeout
}

// Serve begins to accept connections. If there has been no Reload yet, load is to call
// it. It is called for the first connection, and again after an error.
func (p *Proxy) Serve(load func(context.Context) error) {
	p.load = load
	p.meter.Offer(p.name, p)
	p.conns.Go(p.acceptLoop)
}

// Stats implements [meter.Source].
func (p *Proxy) Stats() transport.Stats {
	if d, _ := p.current(); d != nil {
		return d.Stats()
	}
	return transport.Stats{}
}

// Usage implements [meter.Source].
func (p *Proxy) Usage() transport.Usage {
	if d, _ := p.current(); d != nil {
		return d.Usage()
	}
	return transport.Usage{}
}

// Addr returns the address that applications connect to.
func (p *Proxy) Addr() net.Addr { return p.ln.Addr() }

// Close stops listening and ends set-ups that are under way. Connections that
// are up live on; Wait waits for them.
func (p *Proxy) Close() error {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	err := p.ln.Close()
	if p.dialer != nil {
		err = errors.Join(err, p.dialer.Close())
	}
	return err
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
	if p.local != nil && !p.local.SOCKS {
		p.carry(raw, p.local.Bridge.Address, p.local.Bridge.Args, nopAnswer{})
		return
	}
	conn, err := awaitSOCKS(raw)
	if err == nil && p.local == nil {
		err = p.handleTor(raw, conn)
	} else if err == nil {
		err = p.handleLocal(raw, conn)
	}
	switch {
	case errors.Is(err, errNoRequest): // as from a program that looks whether the port is open
		p.log.Debug("a connection to the SOCKS port ended before a request")
	case err != nil:
		p.log.Warn("the SOCKS port got no SOCKS5 request that it can carry out", transport.KindKey, err.Error())
	}
}

// handleTor reads tor's request from conn, which is raw from its beginning, and carries
// it out. An error is about the request.
func (p *Proxy) handleTor(raw net.Conn, conn *opened) error {
	// goptlib negotiates inside AcceptSocks; a listener of one connection keeps
	// a client that stalls there from delaying the others.
	request, err := pt.NewSocksListener(&single{conn: conn}).AcceptSocks()
	if err != nil {
		return conn.whyNoRequest()
	}
	p.carry(raw, request.Req.Target, transport.Args(request.Req.Args), request)
	return nil
}

// handleLocal is handleTor for another application.
func (p *Proxy) handleLocal(raw net.Conn, conn *opened) error {
	request, err := readSOCKS(conn)
	if err != nil {
		return conn.whyNoRequest()
	}
	p.carry(raw, p.local.Bridge.Address, p.local.Bridge.Args, request)
	return nil
}

// answer tells an application what has become of its request.
type answer interface {
	Grant(*net.TCPAddr) error
	RejectReason(byte) error
}

// nopAnswer is for an application that has made none. The end of its connection
// says enough.
type nopAnswer struct{}

func (nopAnswer) Grant(*net.TCPAddr) error { return nil }
func (nopAnswer) RejectReason(byte) error  { return nil }

// carry connects to the target, unless the module knows better, and joins an
// application's connection to that.
func (p *Proxy) carry(conn net.Conn, target string, args transport.Args, to answer) {
	p.asking.Leave(conn)
	rc, err := p.dial(target, args)
	if p.local == nil {
		ptlog.ReportConnect(p.name, transport.Scrub(err))
	}
	if err != nil {
		p.logFailed(target, err)
		if err := to.RejectReason(reply(err)); err != nil {
			p.log.Debug("the SOCKS client left before the answer", ptlog.Error(err))
		}
		return
	}
	end := p.meter.Begin(p.name, rc.SetupTime())
	if err = to.Grant(nil); err != nil {
		_ = rc.Abort() // it has not carried anything
	} else {
		err = rc.Splice(conn)
	}
	end(err)
	st := rc.Stats()
	p.log.Debug("connection ended", ptlog.Address("bridge", target), "sent", st.ToNetwork, "received", st.FromNetwork, ptlog.Error(err))
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

func (p *Proxy) dial(target string, args transport.Args) (transport.Conn, error) {
	d, timeout := p.current()
	if d == nil {
		if err := p.load(p.ctx); err != nil {
			p.meter.Refuse(p.name)
			return nil, err
		}
		d, timeout = p.current()
	}
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	defer cancel()
	return d.Dial(ctx, "tcp", target, args)
}

// single is a listener that accepts one connection.
type single struct{ conn net.Conn }

func (s *single) Accept() (net.Conn, error) {
	conn := s.conn
	s.conn = nil
	if conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }
