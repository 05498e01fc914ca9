package transport

import (
	"context"
	"errors"
	"net"
	"sync"
)

// network gives one instance its connections; it implements guest.Host.
type network struct {
	cfg     *Config
	network string // what DialFixed dials
	address string
	args    Args // of an outgoing connection

	mu      sync.Mutex
	inbound net.Conn // what Accept is to return; nil once it has
	local   net.Addr // of the first network connection
	remote  net.Addr
}

// addrs returns the addresses of the first network connection. What goes over one
// that several callers share has those of its target.
func (n *network) addrs() (local, remote net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.local == nil {
		return targetAddr{n.network, ""}, targetAddr{n.network, n.address}
	}
	return n.local, n.remote
}

// targetAddr is an address as it was given to dial.
type targetAddr struct{ network, address string }

func (a targetAddr) Network() string { return a.network }
func (a targetAddr) String() string  { return a.address }

func (n *network) DialFixed(ctx context.Context) (net.Conn, error) {
	if n.address == "" {
		return nil, &Error{"dial", ErrModule, errors.New("the module asked for a connection that its role does not have")}
	}
	return n.dial(ctx, n.network, n.address)
}

// Dial connects to an address of the module's choice, if the policy grants it.
func (n *network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.cfg.dialGranted(ctx, n.args, network, address)
	if err == nil {
		n.remember(conn)
	}
	return conn, err
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.cfg.Dial(ctx, network, address)
	if err != nil {
		return nil, &Error{"dial", ErrNetwork, err}
	}
	n.remember(conn)
	return conn, nil
}

// Accept gives an instance for one connection the one that it asks for (water_accept).
func (n *network) Accept(context.Context) (net.Conn, error) {
	n.mu.Lock()
	conn := n.inbound
	n.inbound = nil
	n.mu.Unlock()
	if conn == nil {
		return nil, &Error{"accept", ErrModule, errors.New("the module asked for an inbound connection that it does not have")}
	}
	n.remember(conn)
	return conn, nil
}

func (n *network) remember(conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.local == nil {
		n.local, n.remote = conn.LocalAddr(), conn.RemoteAddr()
	}
}

// closeUnused closes an inbound connection that the module never took.
func (n *network) closeUnused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inbound != nil {
		_ = n.inbound.Close() // it has carried nothing
		n.inbound = nil
	}
}
