// Package client is the client side of a pluggable transport: for each transport
// a SOCKS5 listener, and for each request a connection through its module
// (pt-spec 3.5).
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

	"waterproxy/internal/meter"
	"waterproxy/transport"
)

// Proxy is the SOCKS5 proxy of one transport.
type Proxy struct {
	name   string
	dialer transport.Dialer
	ln     net.Listener
	log    *slog.Logger
	meter  *meter.Meter
	ctx    context.Context
	cancel context.CancelFunc
	// timeout bounds set-ups. As a dial's deadline it gives an error for which there
	// is a reply code.
	timeout time.Duration
	conns   sync.WaitGroup
}

// Listen starts the proxy of a transport on a free loopback port. The module
// must offer the client role, or that of a client with an address of its own,
// and is started to see that it does start. Connections share instances of it
// where it can do that and cfg.Instances does not forbid it.
func Listen(ctx context.Context, name string, cfg transport.Config, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	dialer, err := NewDialer(ctx, name, cfg, log)
	if err != nil {
		return nil, err
	}
	timeout := cmp.Or(cfg.SetupTimeout, transport.DefaultSetupTimeout)
	p, err := Serve(ctx, name, dialer, timeout, log, m)
	if err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	return p, nil
}

// NewDialer returns the dialer of a transport, whose module has been started.
func NewDialer(ctx context.Context, name string, cfg transport.Config, log *slog.Logger) (transport.Dialer, error) {
	cfg.Logger = log.With("transport", name)
	dialer, err := transport.NewDialer(cfg)
	if err != nil {
		return nil, err
	}
	if err := dialer.Start(ctx); err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	return dialer, nil
}

// Serve starts the proxy of a transport with a dialer, which it owns unless there is
// an error. timeout bounds the set-up of a connection.
func Serve(ctx context.Context, name string, dialer transport.Dialer, timeout time.Duration, log *slog.Logger, m *meter.Meter) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{name: name, dialer: dialer, ln: ln, log: log.With("transport", name), meter: m, timeout: timeout}
	p.ctx, p.cancel = context.WithCancel(ctx)
	m.Offer(name, dialer)
	p.conns.Go(p.acceptLoop)
	return p, nil
}

// Addr returns the address of the SOCKS5 listener.
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

// handle serves one SOCKS request, from its negotiation to the end of its
// connection.
func (p *Proxy) handle(raw net.Conn) {
	defer raw.Close()
	// goptlib negotiates inside AcceptSocks; a listener of one connection keeps
	// a client that stalls there from delaying the others.
	conn, err := pt.NewSocksListener(&single{conn: raw}).AcceptSocks()
	if err != nil {
		p.log.Debug("a SOCKS request was malformed or came too late")
		return
	}
	rc, err := p.dial(&conn.Req)
	if err != nil {
		p.meter.Refuse(p.name)
		p.log.Info("cannot connect", "error", transport.Scrub(err))
		if err := conn.RejectReason(reply(err)); err != nil {
			p.log.Debug("the SOCKS client left before the answer", "error", transport.Scrub(err))
		}
		return
	}
	end := p.meter.Begin(p.name)
	if err = conn.Grant(nil); err != nil {
		_ = rc.Abort() // it has not carried anything
	} else {
		err = rc.Splice(conn.Conn)
	}
	end(err)
	st := rc.Stats()
	p.log.Debug("connection ended", "sent", st.ToNetwork, "received", st.FromNetwork, "error", transport.Scrub(err))
}

// dial connects to the address that tor asks for, unless the module knows better,
// with the arguments of the bridge line.
func (p *Proxy) dial(req *pt.SocksRequest) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	return p.dialer.Dial(ctx, "tcp", req.Target, transport.Args(req.Args))
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
