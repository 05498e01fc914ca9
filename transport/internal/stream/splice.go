package stream

import (
	"io"
	"net"
	"sync"
	"time"
)

// Splice puts peer in the place of the pipe whose Go end is app, without losing
// or reordering a byte of either direction, and closes app. It owns peer from
// now on, and does not block while the endpoint is open. If the endpoint was closed
// first, what the pipe still holds is delivered to peer, which is then closed as
// [Endpoint.Drain] does.
func (p *Endpoint) Splice(app *PipeConn, peer net.Conn, patience time.Duration, cancel <-chan struct{}) error {
	s := &spliced{Stream: Open(peer), done: make(chan struct{})}
	p.reading.Lock()
	p.writing.Lock()
	p.mu.Lock()
	// Each side's bytes that are in the pipe come before all others.
	var callers, modules wakers // the endpoint itself may be among them
	s.ended = app.out.hasEnded()
	s.first, callers = app.out.takeAll()
	s.last, modules = app.in.takeAll()
	if p.closed {
		p.mu.Unlock()
		p.writing.Unlock()
		p.reading.Unlock()
		callers.wake()
		modules.wake()
		_ = app.Close()
		rest := NewEndpoint(s, Posix)
		s.flush()
		rest.Drain(patience, cancel)
		return rest.Close()
	}
	old := p.s
	p.s = s
	s.watchIn(p.poller)
	fin := p.finished && p.broken == nil
	p.mu.Unlock()
	p.writing.Unlock()
	p.reading.Unlock()
	callers.wake()
	modules.wake()
	s.flush()
	p.Flush()
	if fin {
		_ = s.CloseWrite() // a broken stream shows as its own end
	}
	_ = app.Close()
	_ = old.Close() // wakes the module if it waits there
	p.mu.Lock()
	ws := p.waiting.take()
	p.mu.Unlock()
	ws.wake()
	return nil
}

// spliced is a stream with bytes that are read, and bytes that are written,
// before its own. Only its endpoint reads it, one call at a time.
type spliced struct {
	Stream
	first []byte // read first
	ended bool   // nothing follows first

	mu         sync.Mutex
	last       []byte // left in the pipe, to be written before anything else
	closeWrite bool   // after last
	waiting    wakers
	done       chan struct{}
	written    bool // done is closed
}

func (s *spliced) Read(bufs [][]byte) (int, error) {
	if len(s.first) > 0 {
		n := copyOut(bufs, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	if s.ended {
		return 0, io.EOF
	}
	return s.Stream.Read(bufs)
}

func (s *spliced) watchIn(p *Poller) { watchIn(s.Stream, p) }

// flush writes what was left in the pipe, as far as the stream takes it.
func (s *spliced) flush() {
	s.mu.Lock()
	for len(s.last) > 0 {
		n, err := s.Stream.Write([][]byte{s.last})
		switch {
		case err == nil:
			s.last = s.last[n:]
		case err == ErrWouldBlock:
			if !s.Stream.Await(Out, s) {
				s.mu.Unlock()
				return
			}
		default: // the next write tells the module
			s.last = nil
		}
	}
	fin, ws := s.closeWrite && !s.written, s.waiting.take()
	if !s.written {
		s.written = true
		close(s.done)
	}
	s.mu.Unlock()
	if fin {
		_ = s.Stream.CloseWrite() // a failure shows as the stream's own end
	}
	ws.wake()
}

// Wake implements [Waker]: the stream takes bytes again.
func (s *spliced) Wake() { s.flush() }

func (s *spliced) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.last) > 0
}

func (s *spliced) Write(bufs [][]byte) (int, error) {
	if s.pending() {
		return 0, ErrWouldBlock
	}
	return s.Stream.Write(bufs)
}

func (s *spliced) CloseWrite() error {
	s.mu.Lock()
	if len(s.last) > 0 {
		s.closeWrite = true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.Stream.CloseWrite()
}

func (s *spliced) Await(d Direction, w Waker) bool {
	if d == In {
		return len(s.first) > 0 || s.ended || s.Stream.Await(d, w)
	}
	s.mu.Lock()
	if len(s.last) > 0 {
		s.waiting.add(w)
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	return s.Stream.Await(d, w)
}

// Close releases the stream and whoever waits for what was left.
func (s *spliced) Close() error {
	s.mu.Lock()
	s.last = nil
	ws := s.waiting.take()
	if !s.written {
		s.written = true
		close(s.done)
	}
	s.mu.Unlock()
	ws.wake()
	return s.Stream.Close()
}

// flushed is closed once what was left in the pipe has been written.
func (s *spliced) flushed() <-chan struct{} { return s.done }
