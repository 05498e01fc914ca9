// Command mux is a transport that carries all connections to a bridge over one
// network connection, so that a censor sees one long-lived stream. It hides
// nothing else.
package main

import (
	"context"
	"errors"
	"net"
	"sync"

	"waterproxy/watm"
	_ "waterproxy/watm/singleinstance" // a second instance would open a second connection
)

type mux struct {
	mu      sync.Mutex
	bridges map[string]*bridge // by address
}

// bridge is a session with one bridge, or the attempt to make one.
type bridge struct {
	done    chan struct{} // closed when the attempt has ended
	session *session
	err     error
}

// Dial opens a stream in the session with the request's bridge, which it makes if
// there is none.
func (m *mux) Dial(ctx context.Context, r *watm.Request) (net.Conn, error) {
	for {
		b, mine := m.bridge(r.Address)
		if mine {
			b.connect(ctx, r)
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		err := b.err
		if err == nil {
			var s net.Conn
			if s, err = b.session.open(); err == nil {
				return s, nil
			}
		}
		m.drop(r.Address, b)
		if mine {
			return nil, err
		}
		// It broke, or its attempt did: this request makes its own.
	}
}

// bridge returns the session with a bridge. If there was none it is for the caller
// to connect it.
func (m *mux) bridge(address string) (b *bridge, isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.bridges[address]; b != nil {
		return b, false
	}
	b = &bridge{done: make(chan struct{})}
	m.bridges[address] = b
	return b, true
}

func (m *mux) drop(address string, b *bridge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bridges[address] == b {
		delete(m.bridges, address)
	}
}

func (b *bridge) connect(ctx context.Context, r *watm.Request) {
	defer close(b.done)
	var conn net.Conn
	if conn, b.err = r.Shared().Connect(ctx); b.err == nil {
		b.session, b.err = clientSession(conn)
	}
}

// Accept delivers the streams of one client's session.
func (m *mux) Accept(_ context.Context, conn watm.Conn, deliver func(net.Conn) error) error {
	return serveSession(conn, deliver)
}

// Client and Server are not called, since there are Dial and Accept.

func (*mux) Client(context.Context, watm.Conn, watm.Args) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (*mux) Server(context.Context, watm.Conn) (net.Conn, error) { return nil, errors.ErrUnsupported }

func main() { watm.Run(&mux{bridges: map[string]*bridge{}}) }
