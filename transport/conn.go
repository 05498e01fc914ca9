package transport

import (
	"net"
	"time"
)

// Conn is a connection that a module carries: a [RuntimeConn] or a
// [RuntimeDialerConn]. It is a net.Conn, safe for concurrent use, that can be
// closed one direction at a time. Its user closes it.
type Conn interface {
	// Close delivers what was written: it waits for that for half a second, and then
	// delivery goes on in the background, see [Config.DrainTimeout].
	net.Conn
	// CloseWrite ends writing. What was written is delivered; the peer then sees the
	// end of the stream if the module can express that. Reading goes on.
	CloseWrite() error
	// CloseRead discards what arrives from now on. Writing goes on.
	CloseRead() error
	// Abort is Close without delivering what is in flight.
	Abort() error
	// Done is closed when the connection is over and nothing is left of it. Err returns
	// why it ended: nil before that, and after a clean end; otherwise an [*Error].
	Done() <-chan struct{}
	Err() error
	// Splice joins peer to the connection in place of its user: the module then
	// works on peer directly, without a copy in between. Splice takes ownership of
	// both, blocks until both directions have ended, and returns Err. It must be the
	// last call on the connection but for Close, Abort and Stats.
	Splice(peer net.Conn) error
	// Stats returns what the connection has carried so far; it may be called after its
	// end. Bytes are counted once a read or write is over.
	Stats() ConnStats
	// SetupTime returns how long the connection took to be ready: an instance, if one
	// had to be started, the network connection and the module's handshake. It is 0
	// for a caller's connection over a multiplexed one that was there.
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

// Abort implements [Conn]: it ends the connection at once, and what is in flight is lost.
func (c *conn) Abort() error {
	err := c.s.app.Close()
	c.s.abort()
	<-c.s.done
	return err
}

// Done implements [Conn].
func (c *conn) Done() <-chan struct{} { return c.s.done }

// Err implements [Conn].
func (c *conn) Err() error {
	select {
	case <-c.s.done:
		return c.s.err()
	default:
		return nil
	}
}

// Stats implements [Conn].
func (c *conn) Stats() ConnStats { return c.s.stats() }

// SetupTime implements [Conn].
func (c *conn) SetupTime() time.Duration { return c.s.setUp }

// LocalAddr returns the local address of the network connection; an empty one if
// that is multiplexed.
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

// Splice implements [Conn].
func (c *conn) Splice(peer net.Conn) error {
	s := c.s
	if err := s.in.Caller().Splice(s.app, peer, s.cfg.DrainTimeout, s.aborted); err != nil {
		_ = c.Abort()
		return &Error{"splice", ErrNetwork, err}
	}
	<-s.done
	return s.err()
}
