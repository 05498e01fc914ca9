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
	"sync/atomic"
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/bridgeline"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/transport"
)

// Proxy accepts the connections of tor, or of another application, and carries them
// over one transport.
type Proxy struct {
	name   string
	dialer *transport.ReloadableDialer
	ln     net.Listener
	log    *slog.Logger
	meter  *meter.Meter
	ctx    context.Context
	cancel context.CancelFunc
	// local is nil for tor, which says in each request where to connect to.
	local *Local
	// timeout is the configuration's for set-ups. As a dial's deadline it gives
	// an error for which there is a reply code.
	timeout atomic.Int64
	conns   sync.WaitGroup
}

// Local says where applications other than tor come in, and where they get.
type Local struct {
	// Address is where they connect to.
	Address string
	// Bridge is where every connection goes.
	Bridge bridgeline.Line
	// SOCKS makes them ask in SOCKS5. For what, does not matter: the bridge decides
	// where it passes on connections. Otherwise all they send goes to the bridge.
	SOCKS bool
}

// Listen starts the proxy of a transport on a free loopback port. The module
// must offer the client role, or that of a client with an address of its own,
// and is started to see that it does start. Connections share instances of it
// where it can do that and cfg.Instances does not forbid it.
func Listen(ctx context.Context, name string, cfg transport.Config, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	return listen(ctx, name, "127.0.0.1:0", nil, cfg, log, m)
}

// ListenLocal is Listen for applications other than tor, over the transport of a
// bridge line.
func ListenLocal(ctx context.Context, local Local, cfg transport.Config, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	return listen(ctx, local.Bridge.Transport, local.Address, &local, cfg, log, m)
}

func listen(ctx context.Context, name, address string, local *Local, cfg transport.Config, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	log = log.With("transport", name)
	cfg.Logger = log
	dialer, err := transport.NewReloadableDialer(cfg)
	if err != nil {
		return nil, err
	}
	if err := dialer.Start(ctx); err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	p := &Proxy{name: name, dialer: dialer, ln: ln, log: log, meter: m, local: local}
	p.setTimeout(cfg)
	p.ctx, p.cancel = context.WithCancel(ctx)
	m.Offer(name, dialer)
	p.conns.Go(p.acceptLoop)
	return p, nil
}

func (p *Proxy) setTimeout(cfg transport.Config) {
	p.timeout.Store(int64(cmp.Or(cfg.SetupTimeout, transport.DefaultSetupTimeout)))
}

// Reload carries new connections with another configuration; if that does not
// start, nothing changes.
func (p *Proxy) Reload(ctx context.Context, cfg transport.Config) error {
	cfg.Logger = p.log
	if err := p.dialer.Reload(ctx, cfg); err != nil {
		return err
	}
	p.setTimeout(cfg)
	return nil
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

func (p *Proxy) acceptLoop() {
	for {
		conn, err := p.ln.Accept()
		switch {
		case err == nil:
			p.conns.Go(func() { p.handle(conn) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			p.log.Warn("cannot accept", "error", transport.Scrub(err))
			time.Sleep(100 * time.Millisecond) // out of descriptors: it passes
		}
	}
}

// handle serves one connection, from the application's request to the end.
func (p *Proxy) handle(raw net.Conn) {
	defer raw.Close()
	if p.local != nil {
		p.handleLocal(raw)
		return
	}
	// goptlib negotiates inside AcceptSocks; a listener of one connection keeps
	// a client that stalls there from delaying the others.
	conn, err := pt.NewSocksListener(&single{conn: raw}).AcceptSocks()
	if err != nil {
		p.log.Debug("a SOCKS request was malformed or came too late")
		return
	}
	p.carry(conn.Conn, conn.Req.Target, transport.Args(conn.Req.Args), conn)
}

// handleLocal is handle for an application other than tor.
func (p *Proxy) handleLocal(raw net.Conn) {
	var to answer = nopAnswer{}
	if p.local.SOCKS {
		request, err := readSOCKS(raw)
		if err != nil {
			p.log.Debug("a SOCKS request was malformed or came too late")
			return
		}
		to = request
	}
	p.carry(raw, p.local.Bridge.Address, p.local.Bridge.Args, to)
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
	rc, err := p.dial(target, args)
	if err != nil {
		p.log.Info("cannot connect", ptlog.Address("bridge", target), ptlog.Error(err))
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

func (p *Proxy) dial(target string, args transport.Args) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Duration(p.timeout.Load()))
	defer cancel()
	return p.dialer.Dial(ctx, "tcp", target, args)
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
