package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"waterproxy/transport"
)

// retryPause is how long the next connection waits after a module has failed to load.
const retryPause = time.Second

// awaitFirst loads the module when somebody connects. It reports whether it has.
func (l *Listener) awaitFirst(load func(context.Context) error) bool {
	for {
		err := l.inner.peek()
		switch {
		case errors.Is(err, net.ErrClosed):
			return false
		case err != nil:
			kind, _ := transport.Kind(err)
			l.log.Warn("cannot accept", transport.KindKey, kind, "error", transport.Scrub(err))
		default:
			if err = load(l.ctx); err == nil {
				return true
			}
			if l.ctx.Err() != nil {
				l.inner.drop()
				return false
			}
			// The client sees the end once it is counted and logged.
			l.meter.Refuse(l.name)
			kind, _ := transport.Kind(err)
			l.log.Error("a module that started before does not any more", transport.KindKey, kind, "error", transport.Scrub(err))
			l.inner.drop()
		}
		select {
		case <-time.After(retryPause):
		case <-l.ctx.Done():
			return false
		}
	}
}

// peeked is a listener whose next connection may have come already.
type peeked struct {
	net.Listener
	mu   sync.Mutex
	next net.Conn // nil if it has not, or is taken
}

// peek waits for a connection, which it leaves to Accept.
func (p *peeked) peek() error {
	conn, err := p.Listener.Accept()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = conn
	return nil
}

func (p *peeked) take() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn := p.next
	p.next = nil
	return conn
}

// drop closes a connection that was left to Accept.
func (p *peeked) drop() {
	if conn := p.take(); conn != nil {
		_ = conn.Close() // it has carried nothing
	}
}

// Close implements net.Listener. A connection that was left to Accept ends with it.
func (p *peeked) Close() error {
	defer p.drop()
	return p.Listener.Close()
}

// Accept implements net.Listener.
func (p *peeked) Accept() (net.Conn, error) {
	if conn := p.take(); conn != nil {
		return conn, nil
	}
	return p.Listener.Accept()
}
