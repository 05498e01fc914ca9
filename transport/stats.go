package transport

import (
	"errors"
	"sync"
)

// Stats counts what connections have carried.
type Stats struct {
	// FromCaller and ToCaller count bytes on the modules' caller's side.
	FromCaller, ToCaller int64
	// FromNetwork and ToNetwork count bytes on their network side, as they are on
	// the wire. What goes over a network connection that several callers share is
	// counted for their dialer or listener, and for none of them.
	FromNetwork, ToNetwork int64
}

// Plus returns the sum of both.
func (s Stats) Plus(t Stats) Stats {
	s.FromCaller += t.FromCaller
	s.ToCaller += t.ToCaller
	s.FromNetwork += t.FromNetwork
	s.ToNetwork += t.ToNetwork
	return s
}

// Usage tells what a dialer or listener holds at the moment, and what has gone
// wrong in it so far.
type Usage struct {
	Instances int    // of the module
	Memory    uint64 // linear memory of those instances, in bytes
	Refused   int64  // connections whose set-up failed
	Traps     int64  // instances whose code failed
	Limits    int64  // set-ups and instances that reached a limit
}

// Plus returns the sum of both.
func (u Usage) Plus(v Usage) Usage {
	u.Instances += v.Instances
	u.Memory += v.Memory
	u.Refused += v.Refused
	u.Traps += v.Traps
	u.Limits += v.Limits
	return u
}

// ledger adds up what the sessions of a dialer or listener carry, and what goes wrong.
type ledger struct {
	mu    sync.Mutex
	live  map[*session]struct{}
	past  Stats
	wrong Usage // without what is known from live
}

func newLedger() *ledger { return &ledger{live: map[*session]struct{}{}} }

// note counts an error that ended an instance or its start, nil for none.
func (l *ledger) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrTrap):
		l.wrong.Traps++
	case errors.Is(err, ErrLimit):
		l.wrong.Limits++
	}
}

// refuse counts a connection whose set-up failed.
func (l *ledger) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong.Refused++
}

// Usage tells what there is at the moment, and what has gone wrong so far.
func (l *ledger) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.wrong
	for s := range l.live {
		if s.instance != nil {
			u.Instances++
			u.Memory += s.instance.Memory()
		}
	}
	return u
}

func (l *ledger) begin(s *session) {
	l.mu.Lock()
	l.live[s] = struct{}{}
	l.mu.Unlock()
}

// end counts a session as ended; more than once is no harm.
func (l *ledger) end(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.live[s]; ok {
		delete(l.live, s)
		l.past = l.past.Plus(s.stats())
	}
}

// sessions returns those that have not ended.
func (l *ledger) sessions() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*session, 0, len(l.live))
	for s := range l.live {
		all = append(all, s)
	}
	return all
}

// Stats sums over all sessions, ended ones included.
func (l *ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.past
	for s := range l.live {
		sum = sum.Plus(s.stats())
	}
	return sum
}
