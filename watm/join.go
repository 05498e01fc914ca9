package watm

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// join carries bytes between a caller and the connection that the transport has
// made, in both directions. ended is called once: when both have ended, or as soon
// as the connection is of no more use, with the first error that is not the
// consequence of a close. After an error neither side has been shown an end that would
// look like a clean one. What is left open is for ended to close.
type join struct {
	caller Conn
	wire   net.Conn
	ended  func(error)

	mu       sync.Mutex
	sent     bool // all that the caller wrote is on the wire
	received bool
	finished bool // the caller reads no more
	over     bool // ended has been called
	err      error
}

// run carries both directions, one of them in a goroutine of its own. It returns
// with the other one.
func (j *join) run() {
	spawn(func() { j.down(guarded(func() error { return pass(j.caller, j.wire) })) })
	j.up(guarded(func() error { return pass(j.wire, j.caller) }))
}

// up notes how the way to the wire has ended. When the peer is gone, what it sent
// before still arrives.
func (j *join) up(err error) {
	j.mu.Lock()
	j.sent, j.err = true, err
	lost := new(lostError)
	useless := err != nil && (errors.As(err, &lost) || !isGone(err))
	j.settle(useless)
}

// down notes how the way to the caller has ended.
func (j *join) down(err error) {
	j.mu.Lock()
	j.received = true
	useless := err != nil && !j.finished
	if useless {
		j.err = err
	}
	j.settle(useless)
}

// finish ends the connection once all that the caller has written is on the wire.
func (j *join) finish() {
	j.mu.Lock()
	j.finished = true
	j.settle(false)
}

// settle sees whether the connection is over. It releases the lock.
func (j *join) settle(useless bool) {
	over, err := !j.over && (useless || j.sent && j.received), j.err
	j.over = j.over || over
	stop := !j.over && j.finished && j.sent
	if j.finished && !useless {
		err = nil
	}
	j.mu.Unlock()
	if over {
		j.ended(ignoreClosed(err))
	}
	if stop {
		go j.close() // it is the transport's code, which may take long
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

// bufferSize is that of a large transfer; no buffer is held while nothing
// flows.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// lazyReader is a connection of the host's, which can be waited for without a
// buffer.
type lazyReader interface {
	// readLazily waits until there are bytes, then takes a buffer, copies first into
	// it and reads the bytes behind that; n counts all of it. The caller puts the
	// buffer back, unless it is nil.
	readLazily(first []byte) (buf *[bufferSize]byte, n int, err error)
}

// ReadBatch waits for bytes on a connection of the host's, without holding a buffer, and
// then calls use with first, followed by what there is to read, up to 256 KiB in all. The
// buffer is use's to change until it returns. At the end of the stream the error is io.EOF.
func ReadBatch(conn Conn, first []byte, use func(batch []byte) error) error {
	r, ok := conn.(lazyReader)
	if !ok {
		r = eagerReader{conn}
	}
	buf, n, err := r.readLazily(first)
	if buf == nil {
		return err
	}
	defer buffers.Put(buf)
	if n > len(first) {
		if failed := use(buf[:n]); failed != nil {
			return failed
		}
	}
	return err
}

// eagerReader is a connection that cannot be waited for without a buffer.
type eagerReader struct{ net.Conn }

func (r eagerReader) readLazily(first []byte) (*[bufferSize]byte, int, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	n := copy(buf[:], first)
	more, err := r.Read(buf[n:])
	return buf, n + more, err
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

// lostError is a failure of the connection that is read.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

func copyLazily(dst io.Writer, src lazyReader) error {
	for {
		buf, n, err := src.readLazily(nil)
		var werr error
		if n > 0 {
			_, werr = dst.Write(buf[:n])
		}
		if buf != nil {
			buffers.Put(buf)
		}
		switch {
		case werr != nil:
			return werr
		case err == io.EOF:
			return nil
		case err != nil:
			return &lostError{err}
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
