//go:build unix && !linux

package stream

import "golang.org/x/sys/unix"

// Elsewhere a goroutine for each waiting direction parks in Go's network poller.

type pollerState struct{ parked [2]bool }

// poll starts the goroutines that are missing. The socket's lock is held.
func (s *socket) poll() bool {
	for d := range s.waits {
		if s.waits[d].armed && !s.poller.parked[d] {
			s.poller.parked[d] = true
			go s.park(Direction(d))
		}
	}
	return true
}

func (s *socket) repoll() wakers { return nil }
func (s *socket) unpoll()        {}

// park waits for readiness in Go's poller.
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
	s.mu.Lock()
	s.poller.parked[d] = false
	s.mu.Unlock()
	var ready [2]bool
	ready[d] = true
	s.fire(ready)
}

// readv reads into the first buffer that has room: not every system here has a
// readv in x/sys.
func readv(fd int, bufs [][]byte) (int, error) {
	total := 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := unix.Read(fd, b)
		if n > 0 {
			total += n
		}
		if total > 0 && (err != nil || n < len(b)) {
			return total, nil
		}
		if err != nil || n < len(b) {
			return n, err
		}
	}
	return total, nil
}

func writev(fd int, bufs [][]byte) (int, error) {
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	return unix.Write(fd, all)
}
