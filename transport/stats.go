package transport

import (
	"errors"
	"sync"
)

// ConnStats counts the bytes that a connection has carried.
type ConnStats struct {
	// FromCaller and ToCaller count bytes on the caller's side of the module.
	FromCaller, ToCaller int64
	// FromNetwork and ToNetwork count bytes on its network side, as they are on the
	// wire. What goes over a multiplexed network connection is counted for the dialer
	// or listener, and for none of its callers' connections.
	FromNetwork, ToNetwork int64
}

func (s *ConnStats) add(t ConnStats) {
	s.FromCaller += t.FromCaller
	s.ToCaller += t.ToCaller
	s.FromNetwork += t.FromNetwork
	s.ToNetwork += t.ToNetwork
}

// Stats are the figures of a dialer, listener or relay: bytes and failures since it
// exists, and what it holds at the moment. After a reload they go on from where they
// were.
type Stats struct {
	// ConnStats sums over all connections, those that have ended included.
	ConnStats
	Connections int    // at the moment; those being set up or drained count
	Instances   int    // of the module, at the moment
	Memory      uint64 // what those instances take of the host's memory, in bytes: see Config.MaxMemory
	Refused     int64  // connections whose set-up failed
	Traps       int64  // instances whose code failed
	Limits      int64  // set-ups and instances that reached a limit
	Failures    int64  // instances for many connections that ended before they were asked to
	HostCalls   int64  // of modules to the host
	CryptoCalls int64  // those of them that are for the host's cryptography
}

// Plus returns the sum of both.
func (s Stats) Plus(t Stats) Stats {
	s.ConnStats.add(t.ConnStats)
	s.Connections += t.Connections
	s.Instances += t.Instances
	s.Memory += t.Memory
	s.Refused += t.Refused
	s.Traps += t.Traps
	s.Limits += t.Limits
	s.Failures += t.Failures
	s.HostCalls += t.HostCalls
	s.CryptoCalls += t.CryptoCalls
	return s
}

// addCalls adds what the instance that a session is the only one of has called.
func (s *Stats) addCalls(of *session) {
	if of.instance != nil {
		all, crypto := of.instance.HostCalls()
		s.HostCalls += all
		s.CryptoCalls += crypto
	}
}

// ledger adds up what the sessions of a dialer or listener carry, and what fails.
type ledger struct {
	mu   sync.Mutex
	live map[*session]struct{}
	past Stats // of sessions that have ended, and all failures
}

func newLedger() *ledger { return &ledger{live: map[*session]struct{}{}} }

// note counts an error that ended an instance or its start, nil for none.
func (l *ledger) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrTrap):
		l.past.Traps++
	case errors.Is(err, ErrLimit):
		l.past.Limits++
	}
}

// refuse counts a connection whose set-up failed.
func (l *ledger) refuse() {
	l.mu.Lock()
	l.past.Refused++
	l.mu.Unlock()
}

// fail counts an instance for many connections that has failed.
func (l *ledger) fail() {
	l.mu.Lock()
	l.past.Failures++
	l.mu.Unlock()
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
		l.past.ConnStats.add(s.stats())
		l.past.addCalls(s)
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

// stats returns the figures at the moment.
func (l *ledger) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.past
	for s := range l.live {
		sum.ConnStats.add(s.stats())
		if !s.own {
			sum.Connections++
		}
		if s.instance != nil {
			sum.Instances++
			sum.Memory += s.instance.Memory()
		}
		sum.addCalls(s)
	}
	return sum
}
