package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"waterproxy/transport/internal/guest"
	"waterproxy/transport/internal/stream"
)

// Listener accepts connections and carries them through a module in the server
// role, each in an instance of its own or many in one; see Config.Instances. It
// is a net.Listener.
type Listener struct {
	a     *acceptor
	ready chan *session
	*ledger

	mu      sync.Mutex
	current *serveVersion
	closed  bool
}

// serveVersion is one version of what a Listener does with connections.
type serveVersion struct {
	cfg Config
	// pool is nil if each connection has an instance of its own.
	pool *pool
	args Args
	inUse
}

// Listen starts an instance, to see that the module starts with this
// configuration and what arguments it wants its clients to have, and then to
// accept connections from inner, which belongs to the Listener from now on.
// Set-ups run concurrently, so that a slow or hostile peer
// delays nobody else; one that fails is logged and its connection closed. ctx
// bounds Listen itself.
func Listen(ctx context.Context, cfg Config, inner net.Listener) (*Listener, error) {
	l := &Listener{ready: make(chan *session), ledger: newLedger()}
	v, err := l.version(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l.current = v
	pending := maxPending
	if v.pool != nil {
		pending = v.cfg.MaxConns * v.cfg.Instances
	}
	l.a = accept(inner, v.cfg.Logger, pending, l.setUp)
	return l, nil
}

// version starts the module of a configuration.
func (l *Listener) version(ctx context.Context, cfg Config) (v *serveVersion, err error) {
	v = &serveVersion{}
	if cfg.shares(RoleServer) {
		err = v.startPool(ctx, cfg, l.ledger)
	} else {
		err = v.probe(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	v.inUse = newInUse(cfg)
	return v, nil
}

func (v *serveVersion) startPool(ctx context.Context, cfg Config, l *ledger) (err error) {
	if v.cfg, err = cfg.prepare(cfg.Module.checkMany, RoleServer); err != nil {
		return err
	}
	v.pool = newPool(&v.cfg, RoleServer, l)
	m, err := v.pool.first(ctx)
	if err == nil {
		v.args, err = parsePublished(m.in.Published())
	}
	if err != nil {
		v.pool.close()
	}
	return err
}

func (v *serveVersion) probe(ctx context.Context, cfg Config) (err error) {
	if v.cfg, err = cfg.prepare(cfg.Module.CheckRole, RoleServer); err != nil {
		return err
	}
	v.args, err = Probe(ctx, cfg, RoleServer)
	return err
}

// end stops the instances as soon as they have no connections.
func (v *serveVersion) end() error {
	if v.pool != nil {
		v.pool.close()
	}
	return nil
}

// Reload carries new connections with another configuration, if its module starts
// with it; ctx bounds that. Otherwise nothing changes. Connections that are up, or
// being set up, go on with the old one. Its module may be closed when Reload has
// returned. Args may have changed.
func (l *Listener) Reload(ctx context.Context, cfg Config) error {
	v, err := l.version(ctx, cfg)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		v.retire(v.end)
		return &Error{"reload", ErrConfig, net.ErrClosed}
	}
	old := l.current
	l.current = v
	old.retire(old.end)
	return nil
}

// use returns the current version, which is kept until done is called.
func (l *Listener) use() (v *serveVersion, done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v = l.current
	v.settingUp.Add(1)
	return v, v.settingUp.Done
}

// Args returns the arguments that the module wants its clients to have (SMETHOD
// ARGS, pt-spec 3.3.3), nil if none.
func (l *Listener) Args() Args {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current.args
}

// InstanceStats returns figures on the shared instances of the present
// configuration; all zero if there are none.
func (l *Listener) InstanceStats() InstanceStats {
	l.mu.Lock()
	p := l.current.pool
	l.mu.Unlock()
	if p == nil {
		return InstanceStats{}
	}
	return p.InstanceStats()
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
		if s.instance == nil {
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.current.release()
		err = errors.Join(err, l.current.end())
	}
	return err
}

// Addr returns the inner listener's address.
func (l *Listener) Addr() net.Addr { return l.a.inner.Addr() }

// setUp runs one connection's handshake and hands it to AcceptRuntime.
func (l *Listener) setUp(ctx context.Context, conn net.Conn, ready func()) {
	v, done := l.use()
	defer done()
	began := time.Now()
	n := &network{cfg: &v.cfg, inbound: conn}
	var s *session
	var failed *stream.Port
	var err error
	if v.pool != nil {
		s, failed, err = l.incoming(ctx, v.pool, n)
	} else {
		s, err = start(ctx, &v.cfg, RoleServer, n, l.ledger)
	}
	ready()
	if err != nil {
		l.refuse()
		logRefused(ctx, &v.cfg, err)
	} else if s != nil {
		l.deliver(ctx, s)
	}
	if failed != nil {
		closeLate(ctx, v.pool, failed, began)
	}
}

// incoming gives a connection to a shared instance. It returns no session if it is
// one over which several callers' connections come: those are delivered by
// themselves. failed is the connection if it has failed through no fault of its peer.
func (l *Listener) incoming(ctx context.Context, p *pool, n *network) (s *session, failed *stream.Port, err error) {
	o := guest.ConnOptions{Hold: func(p *stream.Port) { failed = p }} // before open returns
	s, err = p.open(ctx, n, o, (*guest.Conn).Incoming, func(s *session) { go l.deliver(ctx, s) })
	if conn := n.takeUnused(); conn != nil {
		failed = stream.NewPort(stream.Open(conn), stream.Posix)
	}
	if err != nil || s.in.(*guest.Conn).IsShared() {
		return nil, failed, err
	}
	return s, failed, nil
}

// closeLate closes a connection after the module's KeepOpen delay. A prober then cannot
// tell an internal failure from a rejected handshake. ctx ends with the listener;
// connections of one that is closed are closed at once.
func closeLate(ctx context.Context, from *pool, p *stream.Port, began time.Time) {
	p.Discard(began.Add(from.keepOpen()), ctx.Done())
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
		logFailure(cfg.Logger, "an inbound connection was not set up", err)
	}
}
