package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"waterproxy/transport/internal/guest"
	"waterproxy/transport/internal/stream"
)

// closeWait is how long Close waits for a connection to drain; what takes longer
// goes on in the background.
const closeWait = 500 * time.Millisecond

// session is an instance that is up, from its set-up to the last byte.
type session struct {
	cfg *Config
	net *network
	in  *guest.Instance
	app *stream.PipeConn // the Go caller's end; nil in the relay role

	done      chan struct{} // closed when nothing is left of the session
	err       error         // why it ended, set before done; nil for a clean end
	abort     chan struct{} // closed to end it now, whatever is in flight
	abortOnce sync.Once
	closeOnce sync.Once
}

// start sets up an instance in a role and lets it run.
func start(ctx context.Context, cfg *Config, role Role, n *network) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.SetupTimeout, errSetupTimeout)
	defer cancel()
	defer n.closeUnused()
	o, err := cfg.options(role, n)
	if err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, net: n, done: make(chan struct{}), abort: make(chan struct{})}
	if role != RoleRelay {
		o.Caller, s.app = stream.NewPipe()
	}
	if s.in, err = guest.Start(ctx, cfg.Module.m, o); err != nil {
		return nil, wrap("set up "+role.String(), err)
	}
	go s.run()
	return s, nil
}

var errSetupTimeout = &Error{"set up", ErrLimit, errors.New("the connection was not set up in time")}

// run lets the module work, then lets what it wrote leave.
func (s *session) run() {
	err := s.in.Run()
	if err != nil && !errors.Is(err, guest.ErrKilled) {
		s.err = wrap("carry", err)
		s.cfg.Logger.Info("connection ended by its module", "error", scrubbed(s.err))
	}
	if s.app != nil {
		s.app.EndWith(s.err)
	}
	s.in.Release()
	var wg sync.WaitGroup
	for _, p := range s.in.Ports() {
		wg.Go(func() {
			p.Linger(s.cfg.DrainTimeout, s.abort)
			_ = p.Close() // the connection is over: nobody could use the error
		})
	}
	wg.Wait()
	close(s.done)
}

// close ends the session after what the caller wrote, waiting a little.
func (s *session) close() {
	s.closeOnce.Do(func() {
		s.in.Finish()
		go s.watchDrain()
	})
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

// watchDrain kills the session if no byte moves for DrainTimeout.
func (s *session) watchDrain() {
	for moved := s.moved(); ; {
		t := time.NewTimer(s.cfg.DrainTimeout)
		select {
		case <-s.done:
			t.Stop()
			return
		case <-t.C:
		}
		now := s.moved()
		if now == moved {
			s.kill()
			return
		}
		moved = now
	}
}

// moved counts every byte that the module was given or wrote.
func (s *session) moved() (n int64) {
	for _, p := range s.in.Ports() {
		in, out := p.Counts()
		n += in + out
	}
	return n
}

// kill ends the session now.
func (s *session) kill() {
	s.abortOnce.Do(func() {
		s.in.Kill(nil)
		close(s.abort)
	})
}

// Stats counts what a connection has carried.
type Stats struct {
	// ToNetwork and FromNetwork count bytes on the module's network side, as
	// they are on the wire.
	ToNetwork, FromNetwork int64
	// FromCaller and ToCaller count bytes on its caller's side.
	FromCaller, ToCaller int64
}

func (s *session) stats() (st Stats) {
	for _, p := range s.in.Ports() {
		in, out := p.Counts()
		if p == s.in.Caller() {
			st.FromCaller += in
			st.ToCaller += out
		} else {
			st.FromNetwork += in
			st.ToNetwork += out
		}
	}
	return st
}
