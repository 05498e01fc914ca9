package transport

import (
	"net"
	"time"
)

// Conn is a connection that a module carries: a [RuntimeConn] or a
// [RuntimeDialerConn]. It is a net.Conn, safe for concurrent use, that can be
// closed one direction at a time. Its user closes it.
type Conn interface {
	net.Conn
	// CloseRead and CloseWrite close one direction.
	CloseRead() error
	CloseWrite() error
	// Abort is Close without delivering what is in flight.
	Abort() error
	// Done is closed when the connection is over; Err returns the reason.
	Done() <-chan struct{}
	Err() error
	// Splice puts another connection in place of the user.
	Splice(peer net.Conn) error
	// Stats returns what the connection has carried so far.
	Stats() ConnStats
	// SetupTime returns how long the connection took to be ready, 0 if it came over
	// one that was there.
	SetupTime() time.Duration
}

// RuntimeConn is a connection carried by a module instance of its own.
type RuntimeConn struct{ conn }

// RuntimeDialerConn is one of the connections of an instance that carries many:
// of a [RuntimeDialer], or of a [Listener].
type RuntimeDialerConn struct{ conn }

var (
	_ Conn = (*RuntimeConn)(nil)
	_ Conn = (*RuntimeDialerConn)(nil)
)

// conn is what both kinds have in common.
type conn struct{ s *session }

// Read reads what the module makes of the network's bytes. After a clean end it
// returns io.EOF; if the module failed, an [*Error].
func (c *conn) Read(p []byte) (int, error) { return c.s.app.Read(p) }

// Write gives the module bytes to send. It returns once the runtime holds them
// all; an error comes with the number of bytes taken.
func (c *conn) Write(p []byte) (int, error) { return c.s.app.Write(p) }

// CloseWrite ends writing. What was written is delivered;
// the peer then sees the end of the stream if the module can express that.
// Reading goes on.
func (c *conn) CloseWrite() error { return c.s.app.CloseWrite() }

// CloseRead discards what arrives from now on.
func (c *conn) CloseRead() error { return c.s.app.CloseRead() }

// Close ends the connection. It returns once what was written has left, or
// after half a second, whichever comes first; delivery then goes on in the
// background as long as the peer takes bytes (see [Config.DrainTimeout]).
func (c *conn) Close() error {
	if err := c.s.app.Close(); err != nil {
		return err
	}
	c.s.close()
	return nil
}

// Abort ends the connection at once. What is in flight is lost.
func (c *conn) Abort() error {
	err := c.s.app.Close()
	c.s.abort()
	<-c.s.done
	return err
}

// Done is closed when the connection is over and nothing is left of it.
func (c *conn) Done() <-chan struct{} { return c.s.done }

// Err returns why the connection ended: nil while it lives or after a clean end.
func (c *conn) Err() error {
	select {
	case <-c.s.done:
		return c.s.err()
	default:
		return nil
	}
}

// Stats returns what the connection has carried so far.
func (c *conn) Stats() ConnStats { return c.s.stats() }

// SetupTime returns how long the connection took to be ready: an instance, if one
// had to be started, the network connection and the module's handshake. It is 0 for
// a connection that came over another one.
func (c *conn) SetupTime() time.Duration { return c.s.setUp }

// LocalAddr returns the local address of the network connection; an empty one if
// that is shared with others.
func (c *conn) LocalAddr() net.Addr {
	local, _ := c.s.net.addrs()
	return local
}

// RemoteAddr returns the remote address of the network connection.
func (c *conn) RemoteAddr() net.Addr {
	_, remote := c.s.net.addrs()
	return remote
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.s.app.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.s.app.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.s.app.SetWriteDeadline(t) }

// Splice joins peer to the connection in place of its user: the module then
// works on peer directly, without a copy in between. Splice takes ownership of
// both, blocks until both directions have ended, and returns why the connection
// ended, nil for a clean end. It must be the last call on the connection but for
// Close, Abort and Stats.
func (c *conn) Splice(peer net.Conn) error {
	s := c.s
	if err := s.in.Caller().Splice(s.app, peer, s.cfg.DrainTimeout, s.aborted); err != nil {
		_ = c.Abort()
		return &Error{"splice", ErrNetwork, err}
	}
	<-s.done
	return s.err()
}
