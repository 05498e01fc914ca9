package stream

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// NewPipe returns the two ends of an in-memory stream: one for a module and one
// for Go code. Each direction holds a bounded number of bytes.
func NewPipe() (Stream, *PipeConn) {
	toModule, fromModule := new(buffer), new(buffer)
	return &pipeStream{in: toModule, out: fromModule},
		&PipeConn{in: fromModule, out: toModule}
}

// pipeStream is the module's end.
type pipeStream struct{ in, out *buffer }

func (p *pipeStream) Read(bufs [][]byte) (int, error)  { return p.in.read(bufs) }
func (p *pipeStream) Write(bufs [][]byte) (int, error) { return p.out.write(bufs) }
func (p *pipeStream) CloseRead() error                 { p.in.swallow(); return nil }
func (p *pipeStream) CloseWrite() error                { p.out.end(io.EOF); return nil }
func (p *pipeStream) Datagram() bool                   { return false }

func (p *pipeStream) Await(d Direction, w Waker) bool {
	if d == In {
		return p.in.awaitRead(w)
	}
	return p.out.awaitWrite(w)
}

// Close lets the other end read what was written and fails what it writes.
func (p *pipeStream) Close() error {
	p.out.end(io.EOF)
	p.in.drop()
	return nil
}

// PipeConn is the Go caller's end of a pipe: a full-duplex byte stream with
// deadlines, safe for concurrent use.
type PipeConn struct {
	in, out     *buffer
	inDeadline  deadline
	outDeadline deadline
	closed      atomic.Bool
	why         atomic.Pointer[func() error]
	// One Write at a time, so that large writes are not mixed up.
	writing sync.Mutex
}

// Read implements io.Reader.
func (c *PipeConn) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if isClosed(c.inDeadline.passed()) {
		return 0, os.ErrDeadlineExceeded
	}
	if len(p) == 0 {
		return 0, nil
	}
	bufs := [1][]byte{p}
	for {
		n, err := c.in.read(bufs[:])
		if err != ErrWouldBlock {
			return n, c.own(err)
		}
		if err := c.wait(c.in.awaitRead, c.in, &c.inDeadline); err != nil {
			return 0, err
		}
	}
}

// Write implements io.Writer. It returns early only with an error.
func (c *PipeConn) Write(p []byte) (total int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if isClosed(c.outDeadline.passed()) {
		return 0, os.ErrDeadlineExceeded
	}
	for len(p) > 0 {
		bufs := [1][]byte{p}
		n, err := c.out.write(bufs[:])
		total += n
		p = p[n:]
		switch {
		case err == ErrWouldBlock, err == nil && len(p) > 0:
			if err := c.wait(c.out.awaitWrite, c.out, &c.outDeadline); err != nil {
				return total, err
			}
		case err != nil:
			return total, c.own(err)
		}
	}
	return total, nil
}

// own replaces the buffers' errors by those of the connection: its own user
// closed it, or EndWith gave a reason.
func (c *PipeConn) own(err error) error {
	if err == nil {
		return nil
	}
	if c.closed.Load() {
		return net.ErrClosed
	}
	if why := c.why.Load(); why != nil {
		if cause := (*why)(); cause != nil {
			return cause
		}
	}
	return err
}

// EndWith sets a function that is asked at the end of the stream. Its error, if
// any, is what reads return in place of io.EOF, and writes in place of a broken
// pipe.
func (c *PipeConn) EndWith(why func() error) { c.why.Store(&why) }

// wait blocks until await returns true, the deadline passes or the buffer changes.
func (c *PipeConn) wait(await func(Waker) bool, b *buffer, d *deadline) error {
	s := NewSignal()
	if await(s) {
		return nil
	}
	select {
	case <-s:
		return nil
	case <-d.passed():
		b.forget(s)
		return os.ErrDeadlineExceeded
	}
}

// awaitRead blocks until there is something to read, without holding a buffer
// meanwhile.
func (c *PipeConn) awaitRead() error {
	return c.wait(c.in.awaitRead, c.in, &c.inDeadline)
}

// CloseRead discards what arrives from now on; the module does not notice.
func (c *PipeConn) CloseRead() error { c.in.swallow(); return nil }

// CloseWrite ends the stream towards the module, after what was written.
func (c *PipeConn) CloseWrite() error { c.out.end(io.EOF); return nil }

// Close ends both directions. What was written stays readable for the module;
// what the module still writes vanishes.
func (c *PipeConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.out.end(io.EOF)
	c.in.swallow()
	c.inDeadline.stop()
	c.outDeadline.stop()
	return nil
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of net.Conn.
func (c *PipeConn) SetDeadline(t time.Time) error {
	c.inDeadline.set(t)
	c.outDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *PipeConn) SetReadDeadline(t time.Time) error { c.inDeadline.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *PipeConn) SetWriteDeadline(t time.Time) error { c.outDeadline.set(t); return nil }
