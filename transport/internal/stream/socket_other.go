//go:build !unix

package stream

import "net"

// openSocket has no direct access to sockets here: they are relayed like any
// other net.Conn.
func openSocket(net.Conn) Stream { return nil }

// openUnread returns nil, as openSocket does.
func openUnread(net.Conn, []byte) Stream { return nil }
