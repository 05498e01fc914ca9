package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"waterproxy/transport/internal/stream"
)

// maxPending bounds the connections of one listener or relay whose set-up is under
// way, if each has an instance of its own.
const maxPending = 256

// Listener accepts connections and carries them through a module in the server
// role, each in an instance of its own or many in one; see Config.Instances. It
// is a net.Listener.
type Listener struct {
	a           *acceptor
	ready       chan *session
	log         *slog.Logger
	ledger      *ledger
	generations *generations[*serveGeneration]
}

// Listen starts an instance, to see that the module starts with this configuration and
// what arguments it publishes, and then accepts connections from inner, which belongs to
// the Listener if there is no error. Set-ups run concurrently, so that a slow or hostile
// peer delays no other; one that fails is logged and its connection closed. ctx
// bounds Listen itself. Any net.Conn will do. Kernel sockets of package net are used without
// copying; also one from which bytes have been read, if the connection over it has a method
// Unread() (net.Conn, []byte) that returns the socket and those bytes.
func Listen(ctx context.Context, cfg Config, inner net.Listener) (*Listener, error) {
	l := newListener(cfg.Logger, nil)
	if err := l.Reload(ctx, cfg); err != nil {
		return nil, err
	}
	l.accept(inner)
	return l, nil
}

// ListenLazy accepts connections from inner, which belongs to the Listener, before it
// has a configuration. The first connection calls first, which is to call Reload, and
// waits for that, as do those that come meanwhile. After an error, with which they are
// refused, the next call begins a second later at the earliest. first may be called before
// ListenLazy has returned. Its context ends with Close, which does not wait for it. log gets what concerns the Listener; nil
// means no log.
func ListenLazy(inner net.Listener, log *slog.Logger, first func(context.Context) error) *Listener {
	l := newListener(log, first)
	l.accept(inner)
	return l
}

func newListener(log *slog.Logger, first func(context.Context) error) *Listener {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Listener{ready: make(chan *session), log: log, ledger: newLedger(), generations: newGenerations[*serveGeneration](first)}
}

func (l *Listener) accept(inner net.Listener) { l.a = accept(inner, l.log, l.maxPending, l.setUp) }

// maxPending returns how many set-ups may be under way.
func (l *Listener) maxPending() int {
	if g := l.generations.now(); g != nil && g.pool != nil {
		return g.cfg.MaxConns * g.cfg.Instances
	}
	return maxPending
}

// Reload carries new connections with another configuration, or with the first one, if
// its module starts with it; ctx bounds that. Otherwise nothing changes. Connections
// that are up, or being set up, go on with the old one. Its module may be closed when
// Reload has returned. What Published returns may have changed. After Close it returns an [ErrConfig] with
// net.ErrClosed.
func (l *Listener) Reload(ctx context.Context, cfg Config) error {
	g, err := l.generation(ctx, cfg)
	if err != nil {
		return err
	}
	return l.generations.replace(g, cfg.Module)
}

// Published returns what the module publishes for its clients, nothing if there has been no
// Reload yet.
func (l *Listener) Published() Published {
	if g := l.generations.now(); g != nil {
		return g.published
	}
	return Published{}
}

// Args returns the arguments among that, nil if none.
func (l *Listener) Args() Args { return l.Published().Args }

// Stats returns the listener's figures. They go on after Close.
func (l *Listener) Stats() Stats { return l.ledger.stats() }

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
	return errors.Join(err, l.generations.close())
}

// Addr returns the inner listener's address.
func (l *Listener) Addr() net.Addr { return l.a.inner.Addr() }

// setUp runs one connection's handshake and hands it to AcceptRuntime.
func (l *Listener) setUp(ctx context.Context, raw net.Conn, ready func()) {
	began := time.Now()
	g, done, err := l.generations.use(ctx)
	if err != nil {
		l.notLoaded(ctx, raw, err)
		return
	}
	defer done()
	s, rest, err := g.accept(ctx, raw)
	ready()
	if err != nil {
		l.ledger.refuse()
		logRefused(ctx, g.cfg.Logger, err)
	} else if s != nil {
		l.deliver(ctx, s)
	}
	if rest != nil {
		g.closeLate(ctx, rest, began)
	}
}

// notLoaded refuses a connection for which there is no module. Its peer sees the end
// once that is counted and logged.
func (l *Listener) notLoaded(ctx context.Context, raw net.Conn, err error) {
	if ctx.Err() == nil {
		l.ledger.refuse()
		kind, _ := Kind(err)
		l.log.Error("cannot load the module", KindKey, kind, "error", Scrub(err))
	}
	_ = raw.Close() // it has carried nothing
}

// deliver hands a connection to AcceptRuntime.
func (l *Listener) deliver(ctx context.Context, s *session) {
	select {
	case l.ready <- s:
	case <-ctx.Done():
		c := conn{s}
		_ = c.Abort() // it has carried nothing
	}
}

// logRefused logs why an inbound connection was not set up, unless the listener
// itself was closed.
func logRefused(ctx context.Context, log *slog.Logger, err error) {
	if ctx.Err() == nil {
		logFailure(log, "an inbound connection was not set up", err)
	}
}

// serveGeneration is what a Listener does with connections for one configuration.
type serveGeneration struct {
	l   *Listener
	cfg Config
	// pool is nil if each connection has an instance of its own.
	pool      *pool
	published Published
}

// generation starts the module of a configuration.
func (l *Listener) generation(ctx context.Context, cfg Config) (*serveGeneration, error) {
	g := &serveGeneration{l: l}
	start := g.probe
	if cfg.carriesMany(RoleServer) {
		start = g.startPool
	}
	if err := start(ctx, cfg); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *serveGeneration) startPool(ctx context.Context, cfg Config) (err error) {
	if g.cfg, err = cfg.prepare(cfg.Module.checkMany, RoleServer); err != nil {
		return err
	}
	g.pool = newPool(&g.cfg, RoleServer, g.l.ledger)
	m, err := g.pool.first(ctx)
	if err == nil {
		g.published, err = parsePublished(m.in.Published())
	}
	if err != nil {
		g.pool.close()
	}
	return err
}

func (g *serveGeneration) probe(ctx context.Context, cfg Config) (err error) {
	if g.cfg, err = cfg.prepare(cfg.Module.CheckRole, RoleServer); err != nil {
		return err
	}
	g.published, err = Probe(ctx, cfg, RoleServer)
	return err
}

// close ends the instances as soon as they have no connections.
func (g *serveGeneration) close() error {
	if g.pool != nil {
		g.pool.close()
	}
	return nil
}

// accept has a module shake hands with the peer of raw. s is nil after an error, and for
// a multiplexed connection, whose callers' connections are delivered instead. rest is
// what is left to close, nil if nothing is.
func (g *serveGeneration) accept(ctx context.Context, raw net.Conn) (s *session, rest *stream.Endpoint, err error) {
	n := &network{cfg: &g.cfg}
	if g.pool == nil {
		n.inbound = raw
		s, err = start(ctx, &g.cfg, RoleServer, n, g.l.ledger)
		return s, nil, err
	}
	n.remember(raw)
	return g.pool.accept(ctx, n, raw, func(s *session) { go g.l.deliver(ctx, s) })
}

// closeLate closes a connection after the module's KeepOpen delay. A prober then cannot
// tell an internal failure from a rejected handshake. ctx ends with the listener;
// connections of one that is closed are closed at once.
func (g *serveGeneration) closeLate(ctx context.Context, rest *stream.Endpoint, began time.Time) {
	rest.Discard(began.Add(g.pool.keepOpen()), ctx.Done())
	_ = rest.Close() // the error is of no use
}
