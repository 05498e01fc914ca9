package stream

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Poller is where one goroutine waits for its sockets and for wakes: an epoll
// instance of its own, watched by Go's network poller. So the goroutine that a socket
// is ready for is the one that Go's poller wakes, and no other is in between.
//
// Wait and Look are for one goroutine; the other methods may be called from anywhere.
// What waits for one of the sockets learns of it while that goroutine is in one of
// them, and not before.
type Poller struct {
	fd     int
	file   *os.File
	raw    syscall.RawConn
	events []unix.EpollEvent

	mu      sync.Mutex
	lastID  uint64
	sockets map[uint64]*socket
	closed  bool

	waitMu   sync.Mutex
	waiting  bool // the goroutine is in Go's poller, or about to be
	woken    bool
	deadline time.Time // of file
}

// maxEvents is how many sockets are taken from the kernel at once.
const maxEvents = 64

// NewPoller returns a Poller for the calling goroutine, or another one, to wait in.
// It holds a descriptor until Close.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance: %w", err)
	}
	err = unix.SetNonblock(fd, true)
	p := &Poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), sockets: map[uint64]*socket{}}
	if err == nil {
		p.raw, err = p.file.SyscallConn()
	}
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // fails if Go's poller does not watch it
	}
	if err != nil {
		_ = p.file.Close() // the error is of no use
		return nil, fmt.Errorf("wait for an epoll instance: %w", err)
	}
	return p, nil
}

var (
	processMu sync.Mutex
	process   *Poller
)

// processPoller returns the poller of the sockets that no other watches, whose
// goroutine runs for ever.
func processPoller() (*Poller, error) {
	processMu.Lock()
	defer processMu.Unlock()
	if process != nil {
		return process, nil
	}
	p, err := NewPoller()
	if err != nil {
		return nil, err
	}
	process = p
	go p.run()
	return p, nil
}

func (p *Poller) run() {
	for {
		p.Wait(time.Time{})
	}
}

// Wake implements [Waker]. Wakes while no one waits are remembered as one.
func (p *Poller) Wake() {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	if !p.woken && p.waiting {
		p.setDeadline(time.Unix(1, 0)) // long past: it ends the wait
	}
	p.woken = true
}

// setDeadline sets when Go's poller ends the wait. The lock is held.
func (p *Poller) setDeadline(t time.Time) {
	if !t.Equal(p.deadline) {
		_ = p.file.SetReadDeadline(t) // it fails for a closed one, in which nobody waits
		p.deadline = t
	}
}

// Wait returns after a wake, when a socket has become ready, or at a time; the zero
// time is never. Whatever the reason, it has looked.
func (p *Poller) Wait(until time.Time) {
	if !p.beginWait(until) {
		p.Look()
		return
	}
	var ready []unix.EpollEvent
	err := p.raw.Read(func(uintptr) bool {
		ready = p.ready()
		return len(ready) > 0
	})
	p.waitMu.Lock()
	p.waiting, p.woken = false, false
	p.waitMu.Unlock()
	if err != nil { // the time has come, maybe before it looked
		ready = p.ready()
	}
	p.fire(ready)
}

// beginWait reports whether there is a reason to wait: no wake has come.
func (p *Poller) beginWait(until time.Time) bool {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	if p.woken {
		p.woken = false
		return false
	}
	p.setDeadline(until)
	p.waiting = true
	return true
}

// Look is Wait without waiting.
func (p *Poller) Look() { p.fire(p.ready()) }

// ready takes events from the kernel.
func (p *Poller) ready() []unix.EpollEvent {
	if p.events == nil {
		p.events = make([]unix.EpollEvent, maxEvents)
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.EpollWait(p.fd, p.events, 0) })
	if err != nil { // the descriptor is ours, and so is the room
		panic("cannot read the epoll instance: " + err.Error())
	}
	return p.events[:n]
}

func (p *Poller) fire(events []unix.EpollEvent) {
	for _, ev := range events {
		id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
		p.mu.Lock()
		s := p.sockets[id]
		p.mu.Unlock()
		if s == nil {
			continue // it has been closed, or waits in another
		}
		const both = unix.EPOLLERR | unix.EPOLLHUP
		s.fire([2]bool{
			In:  ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|both) != 0,
			Out: ev.Events&(unix.EPOLLOUT|both) != 0,
		})
	}
}

// Close leaves the sockets to the process's poller. The goroutine no longer waits.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	left := slices.Collect(maps.Values(p.sockets))
	p.mu.Unlock()
	for _, s := range left {
		s.watchIn(nil)
	}
	return p.file.Close()
}

// add gives a socket a number; it is 0 after Close.
func (p *Poller) add(s *socket) (id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	p.lastID++
	p.sockets[p.lastID] = s
	return p.lastID
}

// control is epoll_ctl for the socket of a number.
func (p *Poller) control(op, fd int, id uint64, events uint32) error {
	ev := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(id), Pad: int32(id >> 32)}
	var err error
	if closed := p.raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, fd, &ev) }); closed != nil {
		return closed
	}
	return err
}

// remove gives the number of a socket back.
func (p *Poller) remove(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, id)
}
