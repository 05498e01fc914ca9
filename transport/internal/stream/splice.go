package stream

import (
	"io"
	"net"
	"time"
)

// Splice puts peer in the place of the pipe whose Go end is app, without losing
// or reordering a byte of either direction, and closes app. It owns peer from
// now on. If the port was closed first, what the pipe still holds is delivered
// to peer, which is then closed as [Port.Linger] does.
func (p *Port) Splice(app *PipeConn, peer net.Conn, patience time.Duration, cancel <-chan struct{}) error {
	near := &prefixed{Stream: Open(peer)}
	buf := bufferPool.Get().(*[bufferSize]byte)
	defer bufferPool.Put(buf)
	for {
		n, _ := app.in.read([][]byte{buf[:]})
		if n > 0 {
			if _, err := peer.Write(buf[:n]); err != nil {
				_ = near.Close()
				return err
			}
			continue
		}
		switch p.replace(near, app) {
		case replaced:
			return nil
		case portClosed:
			_ = app.Close()
			rest := NewPort(near, Posix)
			rest.Linger(patience, cancel)
			return rest.Close()
		case pipeFilled:
		}
	}
}

// outcome is that of replace.
type outcome uint8

const (
	replaced outcome = iota
	portClosed
	pipeFilled // the module wrote again
)

// replace does the swap, if nothing is left in the pipe for the Go caller.
func (p *Port) replace(s *prefixed, app *PipeConn) outcome {
	p.mu.Lock()
	if app.in.len() > 0 {
		p.mu.Unlock()
		return pipeFilled
	}
	if p.closed {
		p.mu.Unlock()
		return portClosed
	}
	// What the caller wrote and the module has not read comes first.
	s.first = app.out.takeAll()
	s.ended = app.out.hasEnded() // the caller had half-closed before
	old := p.s
	p.s = s
	p.flush()
	fin := p.finished && p.broken == nil
	ws := p.waiting.take()
	p.mu.Unlock()
	if fin {
		_ = s.CloseWrite() // a broken stream shows as its own end
	}
	_ = app.Close()
	_ = old.Close() // wakes the module if it waits there
	ws.wake()
	return replaced
}

// prefixed is a stream with bytes that are read before its own, or instead. Only
// its port reads it, one call at a time.
type prefixed struct {
	Stream
	first []byte
	ended bool // nothing follows first
}

func (s *prefixed) Read(bufs [][]byte) (int, error) {
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

func (s *prefixed) Await(d Direction, w Waker) bool {
	return d == In && (len(s.first) > 0 || s.ended) || s.Stream.Await(d, w)
}
