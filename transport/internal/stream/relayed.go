package stream

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Open returns a Stream over conn and takes ownership of it. Kernel sockets are
// used directly; any other connection (TLS, net.Pipe, user code) is relayed
// through a bounded pipe by two goroutines. A kernel socket from which bytes have been read
// is used directly as well, if the connection over it has a method
//
//	Unread() (net.Conn, []byte)
//
// that returns the socket and those bytes; neither is used by the connection any more.
func Open(conn net.Conn) Stream {
	if s := openSocket(conn); s != nil {
		return s
	}
	if c, ok := conn.(interface{ Unread() (net.Conn, []byte) }); ok {
		socket, unread := c.Unread()
		if s := openUnread(socket, unread); s != nil {
			return s
		}
	}
	if isDatagram(conn) {
		return openMessages(conn)
	}
	return openRelayed(conn)
}

func isDatagram(conn net.Conn) bool {
	a := conn.LocalAddr()
	if a == nil {
		return false
	}
	switch n := a.Network(); {
	case len(n) >= 3 && n[:3] == "udp", n == "unixgram", len(n) >= 2 && n[:2] == "ip":
		return true
	}
	return false
}

// relayed is a pipe whose far end is copied to and from a net.Conn.
type relayed struct {
	Stream  // the module's end of the pipe
	far     *PipeConn
	conn    net.Conn
	closed  sync.Once
	writing chan struct{} // holds a token during a write, and what it sets
	failed  error         // of a write
	// written is closed when everything that was written has been handed to
	// conn, or conn failed.
	written chan struct{}
}

func openRelayed(conn net.Conn) *relayed {
	near, far := NewPipe()
	r := &relayed{Stream: near, far: far, conn: conn, writing: make(chan struct{}, 1), written: make(chan struct{})}
	go r.copyIn()
	go r.copyOut()
	return r
}

// copyIn moves bytes from the connection to the module. Its buffer starts small,
// because it is held while the connection idles, and grows with what arrives.
func (r *relayed) copyIn() {
	buf := make([]byte, 2<<10)
	for {
		n, err := r.conn.Read(buf)
		if n > 0 {
			if _, werr := r.far.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = r.endAfter()
			}
			r.far.out.end(err)
			return
		}
		if n == len(buf) && len(buf) < 32<<10 {
			buf = make([]byte, 2*len(buf))
		}
	}
}

// settle is how long the end of a connection waits for a write that is under way.
const settle = 50 * time.Millisecond

// endAfter returns what the end of the connection is: a good one, unless a write has
// failed. If the connection has been reset, and a write was told so, reading it looks like
// a good end; a write that is told at this moment returns at once.
func (r *relayed) endAfter() error {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
		if r.failed != nil {
			return r.failed
		}
	case <-t.C: // it waits for the peer, which has not reset anything
	}
	return io.EOF
}

// copyOut moves bytes from the module to the connection, holding no buffer
// while there are none.
func (r *relayed) copyOut() {
	defer close(r.written)
	for {
		if r.far.awaitRead() != nil {
			return
		}
		ring := bufferPool.Get().(*[bufferSize]byte)
		n, err := r.far.in.read([][]byte{ring[:]})
		if n > 0 {
			r.writing <- struct{}{}
			_, err = r.conn.Write(ring[:n])
			r.failed = err
			<-r.writing
		}
		bufferPool.Put(ring)
		switch {
		case err == nil || err == ErrWouldBlock:
		case err == io.EOF:
			closeWrite(r.conn)
			return
		default:
			r.far.in.drop()
			return
		}
	}
}

// closeWrite half-closes conn if it can be; the end of a connection that cannot
// is shown by Close alone.
func closeWrite(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// Close ends the stream at once; [Endpoint] has waited for what was written.
func (r *relayed) Close() (err error) {
	r.closed.Do(func() {
		err = r.conn.Close()
		r.far.in.drop()
		r.far.out.drop()
		_ = r.Stream.Close()
	})
	return err
}

// flushed is closed once all writes have reached the connection.
func (r *relayed) flushed() <-chan struct{} { return r.written }
