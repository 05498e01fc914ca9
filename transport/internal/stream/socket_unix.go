//go:build unix

package stream

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a kernel socket. Bytes go straight between it and the module's
// memory; readiness comes from Go's own network poller, through a goroutine
// that parks in it only while somebody waits.
type socket struct {
	conn     halfCloser
	raw      syscall.RawConn
	datagram bool
	waits    [2]wait
}

// halfCloser is what the net package's stream connections have in common.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// wait is the state of one direction: who waits, and whether a goroutine is
// parked for them.
type wait struct {
	mu     sync.Mutex
	parked bool
	wakers wakers
}

// udpHalfCloser gives a UDP connection the methods of a stream: there is no end
// of stream to send, and nothing to do for it.
type udpHalfCloser struct{ *net.UDPConn }

func (udpHalfCloser) CloseWrite() error { return nil }

// openSocket returns nil if conn is not a socket of the net package itself. A
// type that only embeds one has code of its own, which must not be bypassed.
func openSocket(conn net.Conn) Stream {
	s := &socket{}
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		s.conn = c
		s.raw, err = c.SyscallConn()
	case *net.UnixConn:
		s.conn, s.datagram = c, c.LocalAddr().Network() != "unix"
		s.raw, err = c.SyscallConn()
	case *net.UDPConn:
		s.conn, s.datagram = udpHalfCloser{c}, true
		s.raw, err = c.SyscallConn()
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	// A deadline that the previous owner left would end every wait at once.
	_ = conn.SetDeadline(time.Time{})
	return s
}

func (s *socket) Read(bufs [][]byte) (total int, err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		if s.datagram && len(bufs) > 1 {
			total, err = readScattered(int(fd), bufs)
			return
		}
		for _, b := range bufs {
			if len(b) == 0 {
				continue
			}
			var n int
			n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), b) })
			total += max(n, 0)
			if err == nil && n == 0 && !s.datagram {
				err = io.EOF
			}
			if err != nil || n < len(b) || s.datagram {
				return
			}
		}
	})
	return finish(total, err, cerr)
}

// readScattered reads one datagram into several buffers.
func readScattered(fd int, bufs [][]byte) (int, error) {
	b := make([]byte, size(bufs))
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, b) })
	if err != nil {
		return 0, err
	}
	return copyOut(bufs, b[:n]), nil
}

func (s *socket) Write(bufs [][]byte) (total int, err error) {
	if s.datagram && len(bufs) > 1 {
		var whole []byte
		for _, b := range bufs {
			whole = append(whole, b...)
		}
		bufs = [][]byte{whole}
	}
	cerr := s.raw.Control(func(fd uintptr) {
		for _, b := range bufs {
			if len(b) == 0 && !s.datagram {
				continue
			}
			var n int
			n, err = ignoringEINTR(func() (int, error) { return unix.Write(int(fd), b) })
			total += max(n, 0)
			if err != nil || n < len(b) {
				return
			}
		}
	})
	return finish(total, err, cerr)
}

// finish turns the outcome of several system calls into that of one: what was
// moved counts, and an error shows at the next call.
func finish(n int, err, closed error) (int, error) {
	switch {
	case closed != nil:
		return 0, closed
	case n > 0:
		return n, nil
	case err == unix.EAGAIN:
		return 0, ErrWouldBlock
	case err != nil && err != io.EOF:
		return 0, os.NewSyscallError("socket", err)
	}
	return 0, err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// ready asks the kernel, without waiting.
func ready(fd uintptr, d Direction) bool {
	events := [2]int16{In: unix.POLLIN, Out: unix.POLLOUT}
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events[d]}}
	n, err := ignoringEINTR(func() (int, error) { return unix.Poll(p[:], 0) })
	return err != nil || n > 0
}

func (s *socket) Await(d Direction, w Waker) bool {
	wt := &s.waits[d]
	wt.mu.Lock()
	defer wt.mu.Unlock()
	if wt.parked { // what is parked will fire: no need to ask the kernel
		wt.wakers.add(w)
		return false
	}
	is := true // a closed socket is ready: its next operation fails
	_ = s.raw.Control(func(fd uintptr) { is = ready(fd, d) })
	if is {
		return true
	}
	wt.wakers.add(w)
	wt.parked = true
	go s.park(d)
	return false
}

// park waits for readiness in Go's poller and wakes whoever asked.
func (s *socket) park(d Direction) {
	// The first call, after the poller is armed, must ask the kernel, since an
	// earlier edge may have been consumed; the second is the poller's word.
	called := false
	f := func(fd uintptr) bool {
		if called {
			return true
		}
		called = true
		return ready(fd, d)
	}
	// An error means that the socket is closed; its next operation tells.
	if d == In {
		_ = s.raw.Read(f)
	} else {
		_ = s.raw.Write(f)
	}
	wt := &s.waits[d]
	wt.mu.Lock()
	wt.parked = false
	ws := wt.wakers.take()
	wt.mu.Unlock()
	ws.wake()
}

func (s *socket) CloseWrite() error { return s.conn.CloseWrite() }

// CloseRead leaves the socket alone: Linux answers data that arrives after
// shutdown(SHUT_RD) with a reset, which would destroy what is still under way in
// the other direction.
func (s *socket) CloseRead() error { return nil }

func (s *socket) Close() error   { return s.conn.Close() }
func (s *socket) Datagram() bool { return s.datagram }
