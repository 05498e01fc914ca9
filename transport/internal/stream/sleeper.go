package stream

import "time"

// A Sleeper is where one goroutine waits for wakes. Sockets that it waits for are
// watched by the process's own poller.
type Sleeper struct {
	signal Signal
	timer  *time.Timer
}

// NewSleeper returns a Sleeper that has not been woken.
func NewSleeper() *Sleeper { return &Sleeper{signal: NewSignal()} }

// Wake implements [Waker]. Wakes while no one waits are remembered as one.
func (s *Sleeper) Wake() { s.signal.Wake() }

// Wait returns after a wake, or at a time; the zero time is never.
func (s *Sleeper) Wait(until time.Time) {
	if until.IsZero() {
		<-s.signal
		return
	}
	if s.timer == nil {
		s.timer = time.NewTimer(time.Until(until))
	} else {
		s.timer.Reset(time.Until(until))
	}
	defer s.timer.Stop()
	select {
	case <-s.signal:
	case <-s.timer.C:
	}
}

// Look does nothing: the process's poller looks.
func (s *Sleeper) Look() {}
