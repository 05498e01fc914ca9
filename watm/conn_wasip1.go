package watm

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// address is that of every connection: the host gives none away.
type address struct{}

func (address) Network() string { return "watm" }
func (address) String() string  { return "watm" }

// openConn makes a connection of a descriptor that waits by polling, for an
// instance that has one connection.
func openConn(fd int32) (Conn, error) {
	c, err := fileConn(fd)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok { // it keeps message boundaries
		return datagrams{c}, nil
	}
	return &polledConn{tcp}, nil
}

// fileConn makes a net.Conn of a descriptor.
func fileConn(fd int32) (net.Conn, error) {
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}

// datagrams has no end to pass on.
type datagrams struct{ net.Conn }

func (datagrams) CloseWrite() error { return nil }

// polledConn is a connection that waits in Go's own poller.
type polledConn struct{ *net.TCPConn }

func (c *polledConn) readLazily(first []byte) (buf *[bufferSize]byte, n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[bufferSize]byte)
		n, failure = syscall.Read(int(fd), buf[copy(buf[:], first):])
		if failure == syscall.EAGAIN {
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if err != nil {
		return nil, 0, err
	}
	return buf, len(first) + max(n, 0), readError(n, failure)
}

func readError(n int, err error) error {
	if n == 0 && err == nil {
		return io.EOF
	}
	return err
}

// LocalAddr and RemoteAddr are those of every connection.
func (c *polledConn) LocalAddr() net.Addr  { return address{} }
func (c *polledConn) RemoteAddr() net.Addr { return address{} }

// eventConn is a connection of an instance that has many: the host sends on
// the control descriptor when it is ready.
type eventConn struct {
	fd     int32
	mu     sync.Mutex // guards closed, and fd against being closed in use
	closed bool
	forget func(fd int32)
	in     half
	out    half
}

// half is one direction of an eventConn.
type half struct {
	busy     sync.Mutex    // one operation at a time
	ready    chan struct{} // gets a token when it is worth trying again
	mu       sync.Mutex
	deadline time.Time
	timer    *time.Timer
}

func newEventConn(fd int32, forget func(fd int32)) *eventConn {
	c := &eventConn{fd: fd, forget: forget}
	c.in.ready = make(chan struct{}, 1)
	c.out.ready = make(chan struct{}, 1)
	return c
}

// signal makes whoever waits look again.
func (h *half) signal() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

func (h *half) expired() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.deadline.IsZero() && !time.Now().Before(h.deadline)
}

func (h *half) setDeadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if !t.IsZero() {
		h.timer = time.AfterFunc(time.Until(t), h.signal)
	}
}

// try runs a system call unless the connection is closed.
func (c *eventConn) try(call func(fd int) (int, error)) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return call(int(c.fd))
}

// Read implements net.Conn.
func (c *eventConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in.busy.Lock()
	defer c.in.busy.Unlock()
	for {
		if c.in.expired() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := c.try(func(fd int) (int, error) { return syscall.Read(fd, p) })
		if err == syscall.EAGAIN {
			<-c.in.ready
			continue
		}
		return max(n, 0), readError(n, err)
	}
}

func (c *eventConn) readLazily(first []byte) (*[bufferSize]byte, int, error) {
	c.in.busy.Lock()
	defer c.in.busy.Unlock()
	for {
		if c.in.expired() {
			return nil, 0, os.ErrDeadlineExceeded
		}
		buf := buffers.Get().(*[bufferSize]byte)
		n, err := c.try(func(fd int) (int, error) { return syscall.Read(fd, buf[copy(buf[:], first):]) })
		if err == syscall.EAGAIN {
			buffers.Put(buf)
			<-c.in.ready
			continue
		}
		return buf, len(first) + max(n, 0), readError(n, err)
	}
}

// Write implements net.Conn.
func (c *eventConn) Write(p []byte) (total int, err error) {
	c.out.busy.Lock()
	defer c.out.busy.Unlock()
	for {
		if c.out.expired() {
			return total, os.ErrDeadlineExceeded
		}
		n, err := c.try(func(fd int) (int, error) { return syscall.Write(fd, p[total:]) })
		if err == syscall.EAGAIN {
			<-c.out.ready
			continue
		}
		if err != nil {
			return total, err
		}
		if total += n; total == len(p) {
			return total, nil
		}
	}
}

// CloseWrite implements Conn.
func (c *eventConn) CloseWrite() error {
	_, err := c.try(func(fd int) (int, error) { return 0, syscall.Shutdown(fd, syscall.SHUT_WR) })
	return err
}

// Close implements net.Conn.
func (c *eventConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.forget(c.fd)
	err := syscall.Close(int(c.fd))
	c.mu.Unlock()
	c.in.signal()
	c.out.signal()
	return err
}

// LocalAddr and RemoteAddr are those of every connection.
func (c *eventConn) LocalAddr() net.Addr  { return address{} }
func (c *eventConn) RemoteAddr() net.Addr { return address{} }

// SetDeadline and its like implement net.Conn.
func (c *eventConn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	c.out.setDeadline(t)
	c.in.signal()
	c.out.signal()
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *eventConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	c.in.signal()
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *eventConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(t)
	c.out.signal()
	return nil
}
