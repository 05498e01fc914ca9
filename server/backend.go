package server

import (
	"net"
	"time"
)

// Backend is where a transport's connections go: an [ORPort] or a [Forward].
type Backend interface {
	// dial connects to it. client is the address of who comes through a transport.
	dial(client net.Addr, transport string) (net.Conn, error)
	String() string
}

// dialTimeout bounds connecting to a backend, which is on this machine or near it, and
// authenticating there.
const dialTimeout = 10 * time.Second

// Forward is the TCP address of a service that need not know about transports.
type Forward string

func (f Forward) String() string { return "the address to forward to" }

// dial implements Backend.
func (f Forward) dial(net.Addr, string) (net.Conn, error) {
	return net.DialTimeout("tcp", string(f), dialTimeout)
}
