//go:build wasip1

// Command mux is a transport that carries all connections to a bridge over one
// network connection, so that a censor sees one long-lived stream. It hides
// nothing else.
package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"waterproxy/watm"
	_ "waterproxy/watm/singleinstance" // a second instance would open a second connection
)

type mux struct {
	mu       sync.Mutex
	sessions map[string]*session // by the bridge's address
}

// session is a network connection to one bridge, or the attempt to make one.
type session struct {
	done chan struct{} // closed when the attempt has ended
	*yamux.Session
	err error
}

func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	// A network that stands still for a while is no reason to end all streams, and
	// a stream may stay half-closed for long.
	c.ConnectionWriteTimeout = 5 * time.Minute
	c.StreamCloseTimeout = time.Hour
	c.LogOutput = io.Discard // its users get the errors
	return c
}

// stream has the methods of a connection that can be half-closed: in yamux, Close
// is the end of one direction.
type stream struct{ *yamux.Stream }

func (s stream) CloseWrite() error { return s.Stream.Close() }

// Close reads what still comes, so that it does not fill the stream's window, and
// the peer comes to its end.
func (s stream) Close() error {
	err := s.Stream.Close()
	go io.Copy(io.Discard, s.Stream)
	return err
}

// Dial opens a stream in the session for the request's bridge, which it makes if
// there is none.
func (m *mux) Dial(ctx context.Context, r *watm.Request) (net.Conn, error) {
	for {
		s, mine := m.session(r.Address)
		if mine {
			s.connect(ctx, r)
		}
		select {
		case <-s.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		err := s.err
		if err == nil {
			var opened *yamux.Stream
			if opened, err = s.OpenStream(); err == nil {
				return stream{opened}, nil
			}
			_ = s.Close() // it is broken
		}
		m.drop(r.Address, s)
		if mine {
			return nil, err
		}
		// It broke, or its attempt did: this request makes its own.
	}
}

// session returns the session for a bridge. If there was none it is for the
// caller to connect it.
func (m *mux) session(address string) (s *session, isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[address]; s != nil {
		return s, false
	}
	s = &session{done: make(chan struct{})}
	m.sessions[address] = s
	return s, true
}

func (m *mux) drop(address string, s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[address] == s {
		delete(m.sessions, address)
	}
}

func (s *session) connect(ctx context.Context, r *watm.Request) {
	defer close(s.done)
	conn, err := r.Shared().Connect(ctx)
	if err != nil {
		s.err = err
		return
	}
	s.Session, s.err = yamux.Client(conn, config())
}

// Accept delivers the streams of one client's session.
func (m *mux) Accept(_ context.Context, conn watm.Conn, deliver func(net.Conn) error) error {
	s, err := yamux.Server(conn, config())
	if err != nil {
		return err
	}
	for {
		accepted, err := s.AcceptStream()
		if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) {
			return nil // streams deliver what they have, and end by themselves
		}
		if err == nil {
			err = deliver(stream{accepted})
		}
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
}

// Client and Server are not called, since there are Dial and Accept.

func (*mux) Client(context.Context, watm.Conn, watm.Args) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (*mux) Server(context.Context, watm.Conn) (net.Conn, error) { return nil, errors.ErrUnsupported }

func main() { watm.Run(&mux{sessions: map[string]*session{}}) }
