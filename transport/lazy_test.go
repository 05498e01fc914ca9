package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLazyDialer: a dialer is loaded once, by the first who dials; those who come
// meanwhile wait for the same.
func TestLazyDialer(t *testing.T) {
	var d *ReloadableDialer
	var loads atomic.Int32
	cfg := testConfig(t, "plain"+inOne)
	d = NewLazyDialer(func(ctx context.Context) error {
		loads.Add(1)
		return d.Reload(ctx, cfg)
	})
	defer d.Close()
	echo := echoServer(t)
	var dials sync.WaitGroup
	for range 10 {
		dials.Go(func() {
			c, err := d.Dial(t.Context(), "tcp", echo, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			echoed(t, c, "hello")
		})
	}
	dials.Wait()
	if n := loads.Load(); n != 1 {
		t.Errorf("it was loaded %d times", n)
	}
}

// TestLazyDialerFails: who waits for a load gets its error, and is counted; the next load
// comes later.
func TestLazyDialerFails(t *testing.T) {
	failure := errors.New("does not load")
	var d *ReloadableDialer
	var began []time.Time // of loads, which come one after the other
	cfg := testConfig(t, "plain_v1")
	d = NewLazyDialer(func(ctx context.Context) error {
		if began = append(began, time.Now()); len(began) < 3 {
			return failure
		}
		return d.Reload(ctx, cfg)
	})
	defer d.Close()
	echo := echoServer(t)
	for range 2 {
		if _, err := d.Dial(t.Context(), "tcp", echo, nil); err != failure {
			t.Errorf("the error is %v", err)
		}
	}
	if s := d.Stats(); s.Refused != 2 {
		t.Errorf("the figures are %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, "tcp", echo, nil); err != context.Canceled {
		t.Errorf("who does not wait gets %v", err)
	}
	c, err := d.Dial(t.Context(), "tcp", echo, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 2 {
		if pause := began[i+1].Sub(began[i]); pause < loadPause {
			t.Errorf("load %d came %v after the one before", i+1, pause)
		}
	}
}

// TestLazyDialerClosed: Close does not wait for a load, and nothing is left of what that
// brings.
func TestLazyDialerClosed(t *testing.T) {
	var d *ReloadableDialer
	loading, loaded := make(chan struct{}), make(chan error)
	cfg := testConfig(t, "plain"+inOne)
	cfg.Module = private(t, "plain_v1")
	d = NewLazyDialer(func(ctx context.Context) error {
		close(loading)
		<-ctx.Done() // as Close makes it
		err := d.Reload(context.Background(), cfg)
		loaded <- err
		return err
	})
	dialed := make(chan error)
	go func() {
		_, err := d.Dial(t.Context(), "tcp", "192.0.2.1:1", nil)
		dialed <- err
	}()
	<-loading
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-dialed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("who waited gets %v", err)
	}
	if err := <-loaded; !errors.Is(err, net.ErrClosed) || !errors.Is(err, ErrConfig) {
		t.Errorf("the load gets %v", err)
	}
	awaitInstances(t, cfg.Module, 0)
	if _, err := d.Dial(t.Context(), "tcp", "192.0.2.1:1", nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial after Close: %v", err)
	}
	if err := cfg.Module.Close(); err != nil {
		t.Error(err)
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	net.Listener
	conn chan net.Conn
}

func (l oneConn) Accept() (net.Conn, error) {
	if conn, ok := <-l.conn; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l oneConn) Close() error {
	close(l.conn)
	return l.Listener.Close()
}

// noted is a connection that calls a function before it is closed.
type noted struct {
	net.Conn
	closing func()
}

func (n noted) Close() error {
	n.closing()
	return n.Conn.Close()
}

// anyText is a log that keeps whether there was anything.
type anyText struct{ atomic.Bool }

func (f *anyText) Write(text []byte) (int, error) {
	f.Store(true)
	return len(text), nil
}

// listenLazy is ListenLazy with a function that gets the Listener.
func listenLazy(inner net.Listener, log *slog.Logger, first func(context.Context, *Listener) error) *Listener {
	made := make(chan *Listener, 1)
	l := ListenLazy(inner, log, func(ctx context.Context) error {
		l := <-made
		made <- l
		return first(ctx, l)
	})
	made <- l
	return l
}

// TestListenLazyFails: a client whose module does not load is counted and logged by the
// time it learns that.
func TestListenLazyFails(t *testing.T) {
	near, far := net.Pipe()
	near.SetDeadline(time.Now().Add(patience))
	inner, log := oneConn{loopback(t), make(chan net.Conn, 1)}, &anyText{}
	l := ListenLazy(inner, slog.New(slog.NewTextHandler(log, nil)), func(context.Context) error { return errors.New("does not load") })
	inner.conn <- noted{far, func() { // l is complete: this gives it the connection
		if s := l.Stats(); s.Refused != 1 || !log.Load() {
			t.Errorf("the client is sent away with the figures %+v; logged: %v", s, log.Load())
		}
	}}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestListenLazyClosed: a listener that is closed leaves no client waiting that has
// connected before, and does not wait for the load.
func TestListenLazyClosed(t *testing.T) {
	loading, release := make(chan struct{}), make(chan struct{})
	reloaded := make(chan error)
	cfg := testConfig(t, "plain"+inOne)
	l := listenLazy(loopback(t), nil, func(_ context.Context, l *Listener) error {
		close(loading)
		<-release
		err := l.Reload(context.Background(), cfg)
		reloaded <- err
		return err
	})
	if l.Args() != nil {
		t.Error("it has arguments before it has a configuration")
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	<-loading
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if s := l.Stats(); s.Refused != 0 {
		t.Errorf("a client that came with the end is counted: %+v", s)
	}
	close(release)
	if err := <-reloaded; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the load gets %v", err)
	}
}

// TestListenLazy: the first connections wait for the load and are carried.
func TestListenLazy(t *testing.T) {
	for _, module := range []string{"plain" + inOne, "plain_v1"} {
		var loads atomic.Int32
		cfg := testConfig(t, module)
		l := listenLazy(loopback(t), nil, func(ctx context.Context, l *Listener) error {
			loads.Add(1)
			return l.Reload(ctx, cfg)
		})
		link := acceptLink(t, l)
		for range 3 {
			near, far, err := link(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go echo(far.(net.Conn))
			echoed(t, near, "hello")
			near.Close()
		}
		if n := loads.Load(); n != 1 {
			t.Errorf("%s was loaded %d times", module, n)
		}
		l.Close()
	}
}
