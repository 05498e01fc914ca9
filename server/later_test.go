package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"waterproxy/internal/meter"
)

// noted is a connection that calls a function before it is closed.
type noted struct {
	net.Conn
	closing func()
}

func (n noted) Close() error {
	n.closing()
	return n.Conn.Close()
}

// waiting is a listener of connections that wait.
type waiting chan net.Conn

func (w waiting) Accept() (net.Conn, error) {
	if conn, ok := <-w; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (w waiting) Close() error   { close(w); return nil }
func (w waiting) Addr() net.Addr { return address("") }

// logged is a log that keeps whether there was an error.
type logged struct{ atomic.Bool }

func (l *logged) Write(text []byte) (int, error) {
	l.Store(true)
	return len(text), nil
}

// pipe returns the two ends of a connection on which the near end does not wait for ever.
func pipe(t *testing.T) (near, far net.Conn) {
	t.Helper()
	near, far = net.Pipe()
	if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// A client whose module does not load is counted and logged by the time it learns that.
func TestRefusedBeforeClosed(t *testing.T) {
	m, log, clients := meter.New(), &logged{}, make(waiting, 1)
	dir, err := os.MkdirTemp("", "wp") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := "unix:" + filepath.Join(dir, "s")
	stop, err := m.Serve(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	l := &Listener{
		name: "t", inner: &peeked{Listener: clients}, log: slog.New(slog.NewTextHandler(log, nil)), meter: m, ctx: ctx, cancel: cancel,
	}
	near, far := pipe(t)
	clients <- noted{far, func() {
		rows, err := meter.Read(t.Context(), socket)
		if err != nil || len(rows) != 1 || rows[0].Refused != 1 || !log.Load() {
			t.Errorf("the client is sent away with the figures %+v, %v; logged: %v", rows, err, log.Load())
		}
	}}
	l.ServeLater(func(context.Context) error { return errors.New("does not load") }, nil)
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	l.Wait()
}

// A listener that is closed leaves no client waiting that has connected before.
func TestClosedWhileWaiting(t *testing.T) {
	near, far := pipe(t)
	p := &peeked{Listener: make(waiting, 1)}
	p.Listener.(waiting) <- far
	if err := p.peek(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
