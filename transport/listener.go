package transport

import (
	"context"
	"net"
)

// Listener accepts connections and carries each through a module instance of
// its own, in the server role. It is a net.Listener.
type Listener struct {
	cfg   Config
	a     *acceptor
	ready chan *RuntimeConn
}

// Listen starts to accept connections from inner, which belongs to the Listener
// from now on. Set-ups run concurrently, so that a slow or hostile peer delays
// nobody else; one that fails is logged and its connection closed.
func Listen(cfg Config, inner net.Listener) (*Listener, error) {
	cfg, err := cfg.prepare(RoleServer)
	if err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, ready: make(chan *RuntimeConn)}
	l.a = accept(inner, cfg.Logger, l.setUp)
	return l, nil
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

// AcceptRuntime waits for a connection whose set-up has succeeded. After Close
// it returns net.ErrClosed, or the error that ended the inner listener.
func (l *Listener) AcceptRuntime() (*RuntimeConn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.a.ctx.Done():
		return nil, &Error{"accept", ErrNetwork, l.a.err}
	}
}

// Close stops accepting and ends set-ups that are under way. Connections that
// were accepted live on.
func (l *Listener) Close() error {
	err := l.a.stop(net.ErrClosed)
	l.a.running.Wait()
	return err
}

// Addr returns the inner listener's address.
func (l *Listener) Addr() net.Addr { return l.a.inner.Addr() }

// setUp runs one connection's handshake and hands it to AcceptRuntime.
func (l *Listener) setUp(ctx context.Context, conn net.Conn, ready func()) {
	s, err := start(ctx, &l.cfg, RoleServer, &network{cfg: &l.cfg, inbound: conn})
	ready()
	if err != nil {
		logRefused(ctx, &l.cfg, err)
		return
	}
	c := &RuntimeConn{s}
	select {
	case l.ready <- c:
	case <-ctx.Done():
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
