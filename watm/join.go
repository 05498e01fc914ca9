package watm

import (
	"errors"
	"io"
	"net"
	"sync"
)

// join carries bytes between a caller and the connection that the transport has
// made, in both directions, until both have ended or finishing says so.
type join struct {
	caller Conn
	wire   net.Conn

	mu       sync.Mutex
	sent     bool // all that the caller wrote has been written to the wire
	finished bool // the caller wants no more
}

// run returns when both directions have ended, with the first error that is not
// the consequence of a close.
func (j *join) run() error {
	down := make(chan error, 1)
	go func() { down <- j.direction(j.caller, j.wire) }()
	up := j.direction(j.wire, j.caller)
	j.mu.Lock()
	j.sent = true
	finished := j.finished
	j.mu.Unlock()
	if finished {
		j.wire.Close()
	}
	err := <-down
	if finished || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if err == nil && !errors.Is(up, net.ErrClosed) {
		err = up
	}
	return err
}

// direction passes one direction on. The transport's code may panic in it, which
// ends both.
func (j *join) direction(dst, src net.Conn) error {
	err := guarded(func() error { return pass(dst, src) })
	if p := new(panicError); errors.As(err, &p) {
		j.caller.Close()
		j.wire.Close()
	}
	return err
}

// finish ends the connection once all that the caller has written is on the wire.
func (j *join) finish() {
	j.mu.Lock()
	j.finished = true
	sent := j.sent
	j.mu.Unlock()
	if sent {
		j.wire.Close()
	}
}

// pass copies until the end of src and passes that end on. After an error it does
// so as well: the other direction may have something left to carry.
func pass(dst, src net.Conn) error {
	err := copyConn(dst, src)
	if c, ok := dst.(interface{ CloseWrite() error }); ok {
		if cerr := c.CloseWrite(); err == nil && !errors.Is(cerr, net.ErrClosed) {
			err = cerr
		}
		return err
	}
	return errors.Join(err, dst.Close())
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
