package watm

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// join carries bytes between a caller and the connection that the transport has
// made, in both directions, until both have ended or it is told to finish. Only run
// and abort close the wire: that is the transport's code, which may panic or wait.
type join struct {
	caller    Conn
	wire      net.Conn
	finishing chan struct{} // gets a token when the caller wants no more; nil if never
}

func newJoin(caller Conn, wire net.Conn) *join {
	return &join{caller, wire, make(chan struct{}, 1)}
}

// run returns when both directions have ended, with the first error that is not
// the consequence of a close, or as soon as the connection is of no more use. After
// an error nobody has been shown an end that would look like a clean one.
func (j *join) run() (err error) {
	up, down := make(chan error, 1), make(chan error, 1)
	go func() { up <- guarded(func() error { return pass(j.wire, j.caller) }) }()
	go func() { down <- guarded(func() error { return pass(j.caller, j.wire) }) }()
	finished, sent, received := false, false, false
	for !sent || !received {
		select {
		case <-j.finishing:
			finished = true
		case err = <-up:
			sent = true
			if err != nil && !isGone(err) {
				return err
			}
			// What the peer sent before it was gone still arrives.
		case derr := <-down:
			received = true
			if derr != nil && !finished {
				return ignoreClosed(derr)
			}
		}
		if finished && sent && !received {
			j.close()
		}
	}
	if finished {
		return nil
	}
	return ignoreClosed(err)
}

// finish ends the connection once all that the caller has written is on the wire.
func (j *join) finish() {
	select {
	case j.finishing <- struct{}{}:
	default:
	}
}

// close closes the wire. Whatever comes of that, the connection is over.
func (j *join) close() { _ = guarded(j.wire.Close) }

// isGone tells the loss of a connection, which ends the way down as well, from a
// failure of the transport's own.
func isGone(err error) bool {
	var no syscall.Errno
	return errors.As(err, &no) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// pass copies until the end of src and passes that end on.
func pass(dst, src net.Conn) error {
	if err := copyConn(dst, src); err != nil {
		return err
	}
	if c, ok := dst.(interface{ CloseWrite() error }); ok {
		return ignoreClosed(c.CloseWrite())
	}
	return dst.Close()
}

// bufferSize is that of a large transfer; nobody holds a buffer while nothing
// flows.
const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// lazyReader is a connection of the host's, which can be waited for without a
// buffer.
type lazyReader interface {
	// readLazily waits until there are bytes, then reads them into a buffer that
	// it takes. The caller puts it back, unless it is nil.
	readLazily() (buf *[bufferSize]byte, n int, err error)
}

func copyConn(dst io.Writer, src net.Conn) error {
	if r, ok := src.(lazyReader); ok {
		return copyLazily(dst, r)
	}
	if w, ok := src.(io.WriterTo); ok {
		_, err := w.WriteTo(dst)
		return err
	}
	return copyGrowing(dst, src)
}

func copyLazily(dst io.Writer, src lazyReader) error {
	for {
		buf, n, err := src.readLazily()
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// smallBuffer is what a connection that can only be read with a buffer holds while
// it waits.
const smallBuffer = 4 << 10

// copyGrowing copies with a large buffer only while bytes fill it.
func copyGrowing(dst io.Writer, src io.Reader) error {
	small := make([]byte, smallBuffer)
	full := false
	for {
		buf := small
		var large *[bufferSize]byte
		if full {
			large = buffers.Get().(*[bufferSize]byte)
			buf = large[:]
		}
		n, err := src.Read(buf)
		full = n == len(buf)
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if large != nil {
			buffers.Put(large)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
