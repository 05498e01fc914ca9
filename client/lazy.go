package client

import (
	"context"
	"net"
	"sync"

	"waterproxy/transport"
)

// Lazy is a transport.Dialer that is made when it is first used.
type Lazy struct {
	load func(context.Context) (transport.Dialer, error)

	loading sync.Mutex // held while it is being made
	mu      sync.Mutex
	dialer  transport.Dialer // nil before
	closed  bool
}

var _ transport.Dialer = (*Lazy)(nil)

// NewLazy returns a dialer that load makes. After an error the next connection tries
// again.
func NewLazy(load func(context.Context) (transport.Dialer, error)) *Lazy {
	return &Lazy{load: load}
}

// loaded returns the dialer if it has been made.
func (l *Lazy) loaded() (transport.Dialer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	return l.dialer, nil
}

// get returns the dialer.
func (l *Lazy) get(ctx context.Context) (transport.Dialer, error) {
	if d, err := l.loaded(); d != nil || err != nil {
		return d, err
	}
	l.loading.Lock()
	defer l.loading.Unlock()
	if d, err := l.loaded(); d != nil || err != nil {
		return d, err
	}
	d, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = d.Close() // who closed l has its error already
		return nil, net.ErrClosed
	}
	l.dialer = d
	return d, nil
}

// Start makes the dialer.
func (l *Lazy) Start(ctx context.Context) error {
	_, err := l.get(ctx)
	return err
}

// Dial makes the dialer if need be, and dials.
func (l *Lazy) Dial(ctx context.Context, network, address string, args transport.Args) (transport.Conn, error) {
	d, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return d.Dial(ctx, network, address, args)
}

// Close ends dialing. Connections that are up live on.
func (l *Lazy) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.dialer == nil {
		return nil
	}
	return l.dialer.Close()
}

// Stats returns the dialer's; all zero before it is made.
func (l *Lazy) Stats() transport.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dialer == nil {
		return transport.Stats{}
	}
	return l.dialer.Stats()
}
