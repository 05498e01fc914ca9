package web

import (
	"crypto/tls"
	"net"
	"sync"
)

// tunnel is a connection that is handed on to the module. CloseWrite ends one direction
// and leaves the other, with TLS by a close_notify.
type tunnel struct {
	halfCloser
	remote net.Addr

	mu     sync.Mutex
	unread []byte // comes before what the connection has
}

// halfCloser is what *tls.Conn and *net.TCPConn have in common.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// secureTunnel is a tunnel over TLS, plainTunnel one over a kernel socket.
type (
	secureTunnel struct{ *tunnel }
	plainTunnel  struct{ *tunnel }
)

func newTunnel(conn net.Conn, unread []byte, remote net.Addr) net.Conn {
	t := &tunnel{remote: remote, unread: unread}
	switch c := conn.(type) {
	case *tls.Conn:
		t.halfCloser = c
		return secureTunnel{t}
	case *net.TCPConn:
		t.halfCloser = c
		return plainTunnel{t}
	case halfCloser:
		t.halfCloser = c
	default: // of a listener that is not TCP's
		t.halfCloser = wholeCloser{conn}
	}
	return t
}

// wholeCloser is a connection whose directions end together.
type wholeCloser struct{ net.Conn }

func (wholeCloser) CloseWrite() error { return nil }

// RemoteAddr returns the client's address: that of the far end, or what a trusted proxy has
// said.
func (t *tunnel) RemoteAddr() net.Addr { return t.remote }

func (t *tunnel) Read(p []byte) (int, error) {
	if n := t.readEarly(p); n > 0 {
		return n, nil
	}
	return t.halfCloser.Read(p)
}

// readEarly reads what was there before the tunnel was.
func (t *tunnel) readEarly(p []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := copy(p, t.unread)
	if t.unread = t.unread[n:]; len(t.unread) == 0 {
		t.unread = nil
	}
	return n
}

// Unread returns the connection below the tunnel and what comes before its bytes, so that
// a module works on a kernel socket itself. The tunnel is not used any more.
func (t plainTunnel) Unread() (net.Conn, []byte) { return t.halfCloser, t.unread }

// Close says goodbye and closes, in the background: TLS waits up to five seconds for a peer
// that reads nothing, and the connections of an instance wait for each other.
func (t secureTunnel) Close() error {
	go t.halfCloser.Close() // the error is of no use
	return nil
}
