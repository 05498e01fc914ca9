package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// maxPending bounds the connections whose set-up is under way in one listener.
// Further ones wait in the kernel's queue.
const maxPending = 256

// Listener accepts connections and carries each through a module instance of
// its own, in the server role. It is a net.Listener.
type Listener struct {
	cfg     Config
	inner   net.Listener
	ready   chan *RuntimeConn
	pending chan struct{} // a token for each set-up under way
	ctx     context.Context
	cancel  context.CancelFunc
	setups  sync.WaitGroup
	err     error // why accepting ended; set before the context's end
	close   sync.Once
}

// Listen starts to accept connections from inner, which belongs to the Listener
// from now on. Set-ups run concurrently, so that a slow or hostile peer delays
// nobody else; one that fails is logged and its connection closed.
func Listen(cfg Config, inner net.Listener) (*Listener, error) {
	cfg, err := cfg.prepare(RoleServer)
	if err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, inner: inner, ready: make(chan *RuntimeConn), pending: make(chan struct{}, maxPending)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.setups.Go(l.acceptLoop) // so that Close waits for whatever it starts
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
	case <-l.ctx.Done():
		return nil, &Error{"accept", ErrNetwork, l.err}
	}
}

// Close stops accepting and ends set-ups that are under way. Connections that
// were accepted live on.
func (l *Listener) Close() error {
	err := l.stop(net.ErrClosed)
	l.setups.Wait()
	return err
}

func (l *Listener) stop(cause error) (err error) {
	l.close.Do(func() {
		l.err = cause
		err = l.inner.Close()
		l.cancel()
	})
	return err
}

// Addr returns the inner listener's address.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

func (l *Listener) acceptLoop() {
	const longest = time.Second
	var pause time.Duration
	for {
		select {
		case l.pending <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		conn, err := l.inner.Accept()
		if err == nil {
			pause = 0
			l.setups.Go(func() { l.setUp(conn) })
			continue
		}
		<-l.pending
		if errors.Is(err, net.ErrClosed) {
			_ = l.stop(err) // it is closed already
			return
		}
		// Out of descriptors, or a connection that died in the queue: it passes.
		pause = min(max(2*pause, 5*time.Millisecond), longest)
		l.cfg.Logger.Warn("cannot accept", "error", scrubbed(err), "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
			return
		}
	}
}

// setUp runs one connection's handshake and hands it to AcceptRuntime.
func (l *Listener) setUp(conn net.Conn) {
	s, err := start(l.ctx, &l.cfg, RoleServer, &network{cfg: &l.cfg, inbound: conn})
	<-l.pending
	if err != nil {
		if l.ctx.Err() == nil {
			l.cfg.Logger.Info("an inbound connection was not set up", "error", scrubbed(err))
		}
		return
	}
	c := &RuntimeConn{s}
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		_ = c.Abort()
	}
}
