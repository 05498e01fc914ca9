package transport

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"waterproxy/transport/internal/guest"
	"waterproxy/transport/internal/stream"
)

// closeWait is how long Close waits for a connection to drain; what takes longer
// goes on in the background.
const closeWait = 500 * time.Millisecond

// carried is what the runtime has under a connection: an instance of its own, or
// a part in one that serves many.
type carried interface {
	Caller() *stream.Endpoint
	Endpoints() []*stream.Endpoint // all of them; they outlive the module's work
	Stats() guest.ConnStats
	Close()      // ask the module to deliver what the caller wrote, and end
	Abort(error) // end now
	Release()    // free what the module holds; its work is over
}

// session is a connection that a module carries, from its set-up to the last byte.
type session struct {
	cfg    *Config
	net    *network
	in     carried
	app    *stream.PipeConn // the Go caller's end; nil if there is no caller
	ledger *ledger
	// instance is what the session is the only one of, nil if it shares one.
	instance interface {
		Memory() uint64
		HostCalls() (all, crypto int64)
	}
	setUp time.Duration // how long that took
	own   bool          // of an instance for many connections, and no connection itself

	failure   atomic.Pointer[error] // why the module's work ended, if not cleanly
	done      chan struct{}         // closed when nothing is left of the session
	aborted   chan struct{}         // closed to end it now, whatever is in flight
	abortOnce sync.Once
	closeOnce sync.Once
}

func newSession(cfg *Config, n *network, l *ledger) *session {
	return &session{cfg: cfg, net: n, ledger: l, done: make(chan struct{}), aborted: make(chan struct{})}
}

// use puts what carries the session under it.
func (s *session) use(in carried, app *stream.PipeConn) {
	s.in, s.app = in, app
	if app != nil {
		app.EndWith(s.whyEnded)
	}
	s.ledger.begin(s)
}

// start sets up an instance for one connection in a role, and lets it run.
func start(ctx context.Context, cfg *Config, role Role, n *network, l *ledger) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.SetupTimeout, errSetupTimeout)
	defer cancel()
	defer n.closeUnused()
	began := time.Now()
	o, err := cfg.options(role, n)
	if err != nil {
		return nil, err
	}
	var app *stream.PipeConn
	if role != RoleRelay {
		o.Caller, app = stream.NewPipe()
	}
	in, err := guest.Start(ctx, cfg.Module.m, o)
	if err != nil {
		err = wrap("set up "+role.String(), err)
		l.note(err)
		return nil, err
	}
	s := newSession(cfg, n, l)
	s.instance, s.setUp = in, time.Since(began)
	s.use(in, app)
	go func() {
		err := in.Run()
		l.note(wrap("carry", err))
		s.end(err, func() {})
	}()
	return s, nil
}

var errSetupTimeout = &Error{"set up", ErrLimit, errors.New("the module was not ready in time")}

// end lets what the module wrote leave, after its work has ended with err. Then
// release frees its place.
func (s *session) end(err error, release func()) {
	var (
		result *guest.ResultError
		fail   *guest.FailError
	)
	if err == nil || errors.Is(err, guest.ErrAborted) || errors.As(err, &result) || errors.As(err, &fail) {
		// A module that gives up because its connection broke is not to blame.
		if broken := s.networkFailure(); broken != nil {
			err = broken
		} else if errors.Is(err, guest.ErrAborted) {
			err = nil
		}
	}
	if err != nil {
		err = wrap("carry", err)
		logFailure(s.cfg.Logger, "connection failed", err)
		s.failure.Store(&err)
	}
	s.in.Release()
	var wg sync.WaitGroup
	for _, p := range s.in.Endpoints() {
		wg.Go(func() {
			p.Drain(s.cfg.DrainTimeout, s.aborted)
			_ = p.Close() // the connection is over: the error is of no use
		})
	}
	wg.Wait()
	s.ledger.end(s)
	release() // before anybody learns that the session is over
	close(s.done)
}

// err returns why the module's work ended: nil while it goes on, and after a
// clean end.
func (s *session) err() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// networkFailure returns the error that ended a network connection, if one did.
func (s *session) networkFailure() error {
	caller := s.in.Caller()
	for _, p := range s.in.Endpoints() {
		if p == caller {
			continue
		}
		// A reset shows in one direction only: to whom it happens first.
		if err := cmp.Or(p.InBroken(), p.OutBroken()); err != nil {
			return &Error{"carry", ErrNetwork, err}
		}
	}
	return nil
}

// whyEnded returns why the caller's stream ended, nil for a clean end. The module
// may still be at work.
func (s *session) whyEnded() error {
	if err := s.err(); err != nil || s.in == nil {
		return err
	}
	return s.networkFailure()
}

// close ends the session after what the caller wrote, waiting a little.
func (s *session) close() {
	s.closeOnce.Do(func() {
		s.in.Close()
		go s.drain()
	})
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

// drainRounds bounds a drain that makes progress, in DrainTimeouts: a module
// could otherwise keep it up by writing for ever.
const drainRounds = 20

// drain aborts the session if for DrainTimeout no byte moves from the caller
// to the network.
func (s *session) drain() {
	moved := s.drained()
	for range drainRounds {
		t := time.NewTimer(s.cfg.DrainTimeout)
		select {
		case <-s.done:
			t.Stop()
			return
		case <-t.C:
		}
		now := s.drained()
		if now == moved {
			break
		}
		moved = now
	}
	s.abort()
}

// drained counts the bytes that have moved towards the network.
func (s *session) drained() int64 {
	st := s.stats()
	return st.FromCaller + st.ToNetwork
}

// abort ends the session now.
func (s *session) abort() {
	s.abortOnce.Do(func() {
		s.in.Abort(nil)
		close(s.aborted)
	})
}

func (s *session) stats() ConnStats { return ConnStats(s.in.Stats()) }
