package stream

import "golang.org/x/sys/unix"

// On Linux sockets wait in epoll instances, so that a waiting connection needs no
// goroutine: see [Poller].

// pollerState is a socket's place in a Poller.
type pollerState struct {
	in    *Poller // nil: not there
	id    uint64
	armed uint32  // the events it is armed for
	home  *Poller // where it is to wait; nil for the process's own
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
// false if that is impossible; the next operation on the socket returns the reason.
// The socket's lock is held.
func (s *socket) poll() bool {
	events := s.wanted()
	if events == s.poller.armed {
		return true
	}
	var err error
	closed := s.raw.Control(func(fd uintptr) { err = s.arm(int(fd), events) })
	if err != nil {
		s.unwatched = err
	}
	if err != nil || closed != nil {
		s.poller.armed = 0 // or the next to wait would trust in it
		return false
	}
	s.poller.armed = events
	return true
}

// arm has the poller watch for events, once.
func (s *socket) arm(fd int, events uint32) (err error) {
	if s.poller.in != nil {
		return s.poller.in.control(unix.EPOLL_CTL_MOD, fd, s.poller.id, events)
	}
	p, id := s.poller.home, uint64(0)
	if p != nil {
		id = p.add(s)
	}
	if id == 0 { // it has no home, or that is closed
		s.poller.home = nil
		if p, err = processPoller(); err != nil {
			return err
		}
		id = p.add(s)
	}
	s.poller.in, s.poller.id = p, id
	return p.control(unix.EPOLL_CTL_ADD, fd, id, events)
}

// repoll arms what waits, after the kernel has disarmed the socket as a whole or it has
// left its poller. If that is impossible it returns who waited. The lock is held.
func (s *socket) repoll() wakers {
	s.poller.armed = 0
	if s.closed || s.wanted() == 0 || s.poll() {
		return nil
	}
	return s.disarm([2]bool{true, true})
}

// unpoll takes the socket out of its poller. The lock is held.
func (s *socket) unpoll() {
	if s.poller.in == nil {
		return
	}
	p := s.poller.in
	p.remove(s.poller.id)
	// It fails if one of the two is closed, and so no longer there.
	_ = s.raw.Control(func(fd uintptr) { _ = p.control(unix.EPOLL_CTL_DEL, int(fd), s.poller.id, 0) })
	s.poller.in = nil
}

// watchIn has the socket wait in p from now on; nil is the process's own poller.
func (s *socket) watchIn(p *Poller) {
	s.mu.Lock()
	var ws wakers
	if s.poller.home != p {
		s.unpoll()
		s.poller.home = p
		ws = s.repoll()
	}
	s.mu.Unlock()
	ws.wake()
}

func readv(fd int, bufs [][]byte) (int, error)  { return unix.Readv(fd, bufs) }
func writev(fd int, bufs [][]byte) (int, error) { return unix.Writev(fd, bufs) }
