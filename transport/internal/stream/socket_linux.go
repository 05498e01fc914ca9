package stream

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// On Linux all sockets wait in one epoll instance, itself watched by Go's
// network poller, so that a waiting connection needs no goroutine.

// pollerState is a socket's place in the epoll instance.
type pollerState struct {
	id    uint64 // 0: not there
	armed uint32 // the events it is armed for
}

func (s *socket) wanted() (events uint32) {
	if s.waits[In].armed {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if s.waits[Out].armed {
		events |= unix.EPOLLOUT
	}
	return events
}

// poll makes the poller call fire when an armed direction is ready. It returns
// false if that is impossible, which the next operation on the socket explains.
// The socket's lock is held.
func (s *socket) poll() bool {
	events := s.wanted()
	if events == s.poller.armed {
		return true
	}
	ok := true
	closed := s.raw.Control(func(fd uintptr) { ok = thePoller().watch(s, int(fd), events) })
	if !ok || closed != nil {
		s.poller.armed = 0 // or the next to wait would trust in it
		return false
	}
	s.poller.armed = events
	return true
}

// repoll arms what an event has left waiting: the kernel disarms a socket as a
// whole. The lock is held.
func (s *socket) repoll() {
	s.poller.armed = 0
	if !s.closed && s.wanted() != 0 {
		s.poll()
	}
}

// unpoll takes the socket out, before it is closed. The lock is held.
func (s *socket) unpoll() {
	if s.poller.id == 0 {
		return
	}
	_ = s.raw.Control(func(fd uintptr) { thePoller().forget(s.poller.id, int(fd)) })
}

// epoll is the process's epoll instance.
type epoll struct {
	fd      int
	mu      sync.Mutex
	lastID  uint64
	sockets map[uint64]*socket
}

var (
	pollerOnce sync.Once
	poller     *epoll
)

// thePoller returns the epoll instance, and starts it when it is first needed.
// The program cannot go on without one, as it could not without Go's own.
func thePoller() *epoll {
	pollerOnce.Do(func() {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			panic("cannot create an epoll instance: " + err.Error())
		}
		poller = &epoll{fd: fd, sockets: map[uint64]*socket{}}
		go poller.run()
	})
	return poller
}

// watch arms the socket for events, once.
func (p *epoll) watch(s *socket, fd int, events uint32) bool {
	op := unix.EPOLL_CTL_MOD
	if s.poller.id == 0 {
		op = unix.EPOLL_CTL_ADD
		p.mu.Lock()
		p.lastID++
		s.poller.id = p.lastID
		p.sockets[s.poller.id] = s
		p.mu.Unlock()
	}
	ev := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(s.poller.id), Pad: int32(s.poller.id >> 32)}
	return unix.EpollCtl(p.fd, op, fd, &ev) == nil
}

func (p *epoll) forget(id uint64, fd int) {
	p.mu.Lock()
	delete(p.sockets, id)
	p.mu.Unlock()
	// Needed only where another process holds the same socket; it may be gone.
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// run fires sockets for ever.
func (p *epoll) run() {
	f := os.NewFile(uintptr(p.fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		panic("cannot wait for the epoll instance: " + err.Error())
	}
	events := make([]unix.EpollEvent, 128)
	err = raw.Read(func(uintptr) bool {
		for {
			n, err := ignoringEINTR(func() (int, error) { return unix.EpollWait(p.fd, events, 0) })
			if err != nil {
				panic("cannot read the epoll instance: " + err.Error())
			}
			for _, ev := range events[:n] {
				p.fire(ev)
			}
			if n < len(events) {
				return false // Go's poller calls again when there is more
			}
		}
	})
	panic("the epoll instance was closed: " + err.Error())
}

func (p *epoll) fire(ev unix.EpollEvent) {
	id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
	p.mu.Lock()
	s := p.sockets[id]
	p.mu.Unlock()
	if s == nil {
		return
	}
	const both = unix.EPOLLERR | unix.EPOLLHUP
	s.fire([2]bool{
		In:  ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|both) != 0,
		Out: ev.Events&(unix.EPOLLOUT|both) != 0,
	})
}

func readv(fd int, bufs [][]byte) (int, error)  { return unix.Readv(fd, bufs) }
func writev(fd int, bufs [][]byte) (int, error) { return unix.Writev(fd, bufs) }
