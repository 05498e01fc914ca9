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
// memory. How a socket waits is in socket_linux.go and socket_otherunix.go.
type socket struct {
	conn     halfCloser
	raw      syscall.RawConn
	datagram bool

	// One reader at a time, and what it read beyond what it was asked for.
	reading sync.Mutex
	ahead   *readAhead

	mu      sync.Mutex
	waits   [2]wait
	drained bool // the last read took everything that was there
	closed  bool
	poller  pollerState
	// Why it cannot be waited for; an operation that finds nothing to do would be tried
	// again for ever.
	unwatched error
}

// halfCloser is what the net package's stream connections have in common.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// wait is the state of one direction.
type wait struct {
	armed  bool // the poller will call fire
	fired  bool // it has, and nothing was read or written since
	wakers wakers
}

// readAhead holds bytes that were read before they were asked for. Modules with
// small buffers would otherwise need a system call for each of them.
type readAhead struct {
	buf    *[bufferSize]byte
	unread []byte
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

// openUnread is openSocket for a connection from which bytes have been read; they must be no
// more than a buffer has room for.
func openUnread(conn net.Conn, unread []byte) Stream {
	if len(unread) > bufferSize {
		return nil
	}
	s, ok := openSocket(conn).(*socket)
	if !ok || s.datagram {
		return nil
	}
	if len(unread) > 0 {
		buf := bufferPool.Get().(*[bufferSize]byte)
		s.ahead = &readAhead{buf, buf[:copy(buf[:], unread)]}
	}
	return s
}

func (s *socket) Read(bufs [][]byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if a := s.ahead; a != nil {
		n := copyOut(bufs, a.unread)
		if a.unread = a.unread[n:]; len(a.unread) == 0 {
			bufferPool.Put(a.buf)
			s.ahead = nil
		}
		return n, nil
	}
	asked := size(bufs)
	if asked == 0 {
		return 0, nil
	}
	if err := s.begin(In); err != nil {
		return 0, err
	}
	room := asked
	var extra *[bufferSize]byte
	if !s.datagram && asked < bufferSize {
		extra = bufferPool.Get().(*[bufferSize]byte)
		bufs = append(bufs[:len(bufs):len(bufs)], extra[:])
		room += bufferSize
	}
	n, err := s.readv(bufs)
	if n > asked {
		s.ahead = &readAhead{extra, extra[:n-asked]}
	} else if extra != nil {
		bufferPool.Put(extra)
	}
	if n < room && (err == nil || err == ErrWouldBlock) && !s.datagram {
		s.mu.Lock()
		s.drained = true
		s.mu.Unlock()
	}
	return min(n, asked), err
}

// begin notes that a direction is about to be tried.
func (s *socket) begin(d Direction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[d].fired = false
	if d == In {
		s.drained = false
	}
	return s.unwatched
}

// readv reads once from the socket.
func (s *socket) readv(bufs [][]byte) (n int, err error) {
	closed := s.raw.Control(func(fd uintptr) {
		n, err = ignoringEINTR(func() (int, error) {
			if len(bufs) == 1 {
				return unix.Read(int(fd), bufs[0])
			}
			return readv(int(fd), bufs)
		})
		if n == 0 && err == nil && !s.datagram {
			err = io.EOF
		}
	})
	return result(n, err, closed)
}

func (s *socket) Write(bufs [][]byte) (n int, err error) {
	if size(bufs) == 0 && !s.datagram {
		return 0, nil
	}
	if err := s.begin(Out); err != nil {
		return 0, err
	}
	closed := s.raw.Control(func(fd uintptr) {
		n, err = ignoringEINTR(func() (int, error) {
			if len(bufs) == 1 {
				return unix.Write(int(fd), bufs[0])
			}
			return writev(int(fd), bufs)
		})
	})
	return result(n, err, closed)
}

// result turns what a system call returned into what a Stream returns.
func result(n int, err, closed error) (int, error) {
	switch {
	case closed != nil:
		return 0, closed
	case err == unix.EAGAIN:
		return 0, ErrWouldBlock
	case err != nil && err != io.EOF:
		return 0, os.NewSyscallError("socket", err)
	}
	return max(n, 0), err
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
	if d == In {
		s.reading.Lock()
		has := s.ahead != nil
		s.reading.Unlock()
		if has {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wt := &s.waits[d]
	switch {
	case s.closed, wt.fired:
		return true
	case wt.armed: // the poller will tell: no need to ask the kernel
	case d == In && s.drained: // the poller will tell what came since
		wt.armed = true
	default:
		is := true // a closed socket is ready: its next operation fails
		_ = s.raw.Control(func(fd uintptr) { is = ready(fd, d) })
		if is {
			return true
		}
		wt.armed = true
	}
	wt.wakers.add(w)
	if !s.poll() {
		return true
	}
	return false
}

// fire notes that directions have become ready and wakes those who wait.
func (s *socket) fire(ready [2]bool) {
	s.mu.Lock()
	ws := append(s.disarm(ready), s.repoll()...)
	s.mu.Unlock()
	ws.wake()
}

// disarm notes that directions have become ready, and returns who waits for them. The
// lock is held.
func (s *socket) disarm(ready [2]bool) (ws wakers) {
	for d := range ready {
		if wt := &s.waits[d]; ready[d] && wt.armed {
			wt.armed, wt.fired = false, true
			ws = append(ws, wt.wakers.take()...)
		}
	}
	return ws
}

func (s *socket) CloseWrite() error { return s.conn.CloseWrite() }

// CloseRead leaves the socket alone: Linux answers data that arrives after
// shutdown(SHUT_RD) with a reset, which would destroy what is still under way in
// the other direction.
func (s *socket) CloseRead() error { return nil }

func (s *socket) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	ws := append(s.waits[In].wakers.take(), s.waits[Out].wakers.take()...)
	if first {
		s.unpoll()
	}
	s.mu.Unlock()
	err := s.conn.Close()
	ws.wake()
	return err
}

func (s *socket) Datagram() bool { return s.datagram }
