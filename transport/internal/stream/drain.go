package stream

import "time"

// Drain ends the outgoing half and waits until everything written has left and
// the peer has ended its half too, so that closing cannot destroy bytes that
// are still on their way (a socket closed with unread bytes in it is reset).
// What still arrives is discarded. It gives up when no written byte has moved,
// or the peer has not ended its half, for patience, or when cancel is closed; it
// reports whether everything written had left by then. Bytes for the Go caller
// wait until it reads or closes.
func (p *Endpoint) Drain(patience time.Duration, cancel <-chan struct{}) bool {
	p.WatchIn(nil) // it may outlive the instance
	// An endpoint whose write half is already broken has nothing to wait for.
	_ = p.CloseWrite()
	_, local := p.stream().(*pipeStream)
	l := &draining{wake: NewSignal(), cancel: cancel}
	if !local {
		l.timer = time.NewTimer(patience)
		defer l.timer.Stop()
	}
	moved := p.out.Load()
	for !p.OutFinished(l.wake) {
		if ok := l.wait(); !ok && p.out.Load() == moved {
			return false
		}
		if now := p.out.Load(); now != moved {
			moved = now
			l.reset(patience)
		}
		if l.cancelled() {
			return false
		}
	}
	s, flushed := p.layers()
	for _, f := range flushed {
		if !l.waitFor(f) {
			return false
		}
	}
	if !hasPeer(s) {
		return true
	}
	if l.timer == nil { // a peer took the caller's place meanwhile
		l.timer = time.NewTimer(patience)
		defer l.timer.Stop()
	}
	l.reset(patience)
	var waste [2 << 10]byte
	for until := time.Now().Add(patience); time.Now().Before(until); {
		_, err := s.Read([][]byte{waste[:]})
		if err == ErrWouldBlock && (s.Await(In, l.wake) || l.wait()) {
			continue
		}
		if err != nil {
			break
		}
	}
	return true
}

// layers returns the stream below all others, and for each of them that hands on what
// is written what is closed when it has.
func (p *Endpoint) layers() (lowest Stream, flushed []<-chan struct{}) {
	lowest = p.stream()
	for {
		if f, ok := lowest.(interface{ flushed() <-chan struct{} }); ok {
			flushed = append(flushed, f.flushed())
		}
		f, ok := lowest.(*spliced)
		if !ok {
			return lowest, flushed
		}
		lowest = f.Stream
	}
}

// hasPeer reports whether a peer ends the other half of a stream.
func hasPeer(s Stream) bool {
	_, local := s.(*pipeStream)
	return !local && !s.Datagram()
}

// Drained reports whether Drain would have nothing to wait for, on an endpoint of which
// both halves have been closed. Like Drain it discards what arrives.
func (p *Endpoint) Drained() bool {
	p.mu.Lock()
	finished := p.finished || p.closed
	p.mu.Unlock()
	if !finished {
		return false
	}
	s, flushed := p.layers()
	for _, f := range flushed {
		if !isClosed(f) {
			return false
		}
	}
	if !hasPeer(s) {
		return true
	}
	var waste [2 << 10]byte
	for range 32 { // who sends more than that is not at the end
		if _, err := s.Read([][]byte{waste[:]}); err != nil {
			return err != ErrWouldBlock
		}
	}
	return false
}

// Discard throws away what arrives until a time has come, the peer has ended its
// half or cancel is closed.
func (p *Endpoint) Discard(until time.Time, cancel <-chan struct{}) {
	p.WatchIn(nil) // it may outlive the instance
	l := &draining{wake: NewSignal(), cancel: cancel, timer: time.NewTimer(time.Until(until))}
	defer l.timer.Stop()
	s := p.stream()
	var waste [2 << 10]byte
	for !l.cancelled() && time.Now().Before(until) {
		_, err := s.Read([][]byte{waste[:]})
		if err != nil && (err != ErrWouldBlock || !s.Await(In, l.wake) && !l.wait()) {
			return
		}
	}
}

// draining is the waiting that Drain does; timer is nil to wait for ever.
type draining struct {
	wake   Signal
	timer  *time.Timer
	cancel <-chan struct{}
}

func (l *draining) wait() bool { return l.waitFor(l.wake) }

func (l *draining) waitFor(c <-chan struct{}) bool {
	var late <-chan time.Time
	if l.timer != nil {
		late = l.timer.C
	}
	select {
	case <-c:
		return true
	case <-late:
	case <-l.cancel:
	}
	return false
}

func (l *draining) reset(d time.Duration) {
	if l.timer != nil {
		l.timer.Reset(d)
	}
}

func (l *draining) cancelled() bool { return isClosed(l.cancel) }
