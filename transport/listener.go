package transport

import (
	"context"
	"net"
	"time"

	"waterproxy/transport/internal/guest"
	"waterproxy/transport/internal/stream"
)

// Listener accepts connections and carries them through a module in the server
// role, each in an instance of its own or many in one; see Config.Instances. It
// is a net.Listener.
type Listener struct {
	cfg   Config
	a     *acceptor
	ready chan *session
	// pool is nil if each connection has an instance of its own.
	pool *pool
	*ledger
	args Args
}

// Listen starts an instance, to see that the module starts with this
// configuration and what arguments it wants its clients to have, and then to
// accept connections from inner, which belongs to the Listener from now on.
// Set-ups run concurrently, so that a slow or hostile peer
// delays nobody else; one that fails is logged and its connection closed. ctx
// bounds Listen itself.
func Listen(ctx context.Context, cfg Config, inner net.Listener) (*Listener, error) {
	l := &Listener{ready: make(chan *session)}
	var err error
	if cfg.shares(RoleServer) {
		err = l.startPool(ctx, cfg)
	} else {
		err = l.probe(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	pending := maxPending
	if l.pool != nil {
		pending = l.cfg.MaxConns * l.cfg.Instances
	}
	l.a = accept(inner, l.cfg.Logger, pending, l.setUp)
	return l, nil
}

func (l *Listener) startPool(ctx context.Context, cfg Config) (err error) {
	if l.cfg, err = cfg.prepare(cfg.Module.checkMany, RoleServer); err != nil {
		return err
	}
	p := newPool(&l.cfg, RoleServer)
	l.pool, l.ledger = p, p.ledger
	m, err := p.first(ctx)
	if err == nil {
		l.args, err = parsePublished(m.in.Published())
	}
	if err != nil {
		p.close()
	}
	return err
}

func (l *Listener) probe(ctx context.Context, cfg Config) (err error) {
	if l.cfg, err = cfg.prepare(cfg.Module.CheckRole, RoleServer); err != nil {
		return err
	}
	l.ledger = newLedger()
	l.args, err = cfg.Probe(ctx, RoleServer)
	return err
}

// Args returns the arguments that the module wants its clients to have (SMETHOD
// ARGS, pt-spec 3.3.3), nil if none.
func (l *Listener) Args() Args { return l.args }

// InstanceStats returns figures on the shared instances; all zero if there are
// none.
func (l *Listener) InstanceStats() InstanceStats {
	if l.pool == nil {
		return InstanceStats{}
	}
	return l.pool.InstanceStats()
}

// Accept waits for a connection whose set-up has succeeded. It is AcceptRuntime
// with the signature of net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptRuntime()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptRuntime waits for a connection whose set-up has succeeded, a
// [RuntimeDialerConn] or [RuntimeConn]. After Close it returns net.ErrClosed, or
// the error that ended the inner listener.
func (l *Listener) AcceptRuntime() (Conn, error) {
	select {
	case s := <-l.ready:
		if l.pool != nil {
			return &RuntimeDialerConn{conn{s}}, nil
		}
		return &RuntimeConn{conn{s}}, nil
	case <-l.a.ctx.Done():
		return nil, &Error{"accept", ErrNetwork, l.a.err}
	}
}

// Close stops accepting and ends set-ups that are under way. Connections that
// were accepted live on.
func (l *Listener) Close() error {
	err := l.a.stop(net.ErrClosed)
	l.a.running.Wait()
	if l.pool != nil {
		l.pool.close()
	}
	return err
}

// Addr returns the inner listener's address.
func (l *Listener) Addr() net.Addr { return l.a.inner.Addr() }

// setUp runs one connection's handshake and hands it to AcceptRuntime.
func (l *Listener) setUp(ctx context.Context, conn net.Conn, ready func()) {
	began := time.Now()
	n := &network{cfg: &l.cfg, inbound: conn}
	var s *session
	var failed *stream.Port
	var err error
	if l.pool != nil {
		s, failed, err = l.incoming(ctx, n)
	} else {
		s, err = start(ctx, &l.cfg, RoleServer, n, l.ledger)
	}
	ready()
	if err != nil {
		logRefused(ctx, &l.cfg, err)
	} else if s != nil {
		l.deliver(ctx, s)
	}
	if failed != nil {
		l.hold(ctx, failed, began)
	}
}

// incoming gives a connection to a shared instance. It returns no session if it is
// one over which several callers' connections come: those are delivered by
// themselves. failed is the connection if it has failed through no fault of its peer.
func (l *Listener) incoming(ctx context.Context, n *network) (s *session, failed *stream.Port, err error) {
	o := guest.ConnOptions{Hold: func(p *stream.Port) { failed = p }} // before open returns
	s, err = l.pool.open(ctx, n, o, (*guest.Conn).Incoming, func(s *session) { go l.deliver(ctx, s) })
	if conn := n.takeUnused(); conn != nil {
		failed = stream.NewPort(stream.Open(conn), stream.Posix)
	}
	if err != nil || s.in.(*guest.Conn).IsShared() {
		return nil, failed, err
	}
	return s, failed, nil
}

// hold closes a connection that failed through no fault of its peer, as late as the
// module wants it: a prober is not to learn that there was a failure. ctx ends with
// the listener, and connections of one that is closed are not held.
func (l *Listener) hold(ctx context.Context, p *stream.Port, began time.Time) {
	p.Discard(began.Add(l.pool.hold()), ctx.Done())
	_ = p.Close() // nobody could use the error
}

// deliver hands a connection to AcceptRuntime.
func (l *Listener) deliver(ctx context.Context, s *session) {
	select {
	case l.ready <- s:
	case <-ctx.Done():
		c := conn{s}
		_ = c.Abort() // it has been used by nobody
	}
}

// logRefused logs why an inbound connection was not set up, unless the listener
// itself was closed.
func logRefused(ctx context.Context, cfg *Config, err error) {
	if ctx.Err() == nil {
		cfg.Logger.Info("an inbound connection was not set up", "error", Scrub(err))
	}
}
