package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"waterproxy/transport/internal/guest"
	"waterproxy/transport/internal/stream"
)

const (
	// growAt is how many connections the least loaded instance has when another
	// one is started.
	growAt = 4
	// growWait is how long a connection waits for that, though another instance has
	// room.
	growWait = 100 * time.Millisecond

	// After a failure the next instance is started later and later, until one has
	// lived for longEnough.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	longEnough   = time.Minute

	// stopTimeout is how long an instance that is not needed any more may take to
	// end.
	stopTimeout = 5 * time.Second
)

// pool is the instances that share the connections of one dialer or listener.
type pool struct {
	cfg  *Config
	role Role
	// ledger is that of the dialer or listener.
	ledger *ledger

	mu       sync.Mutex
	members  []*member
	starting *starting // nil if none is
	failures int       // in a row
	lastErr  error     // of the last failure
	notNow   time.Time // no start before that
	closed   bool
	ending   chan struct{} // closed with closed
	kept     time.Duration // what an instance that has ended asked for; see keepOpen
	// published is what the first instance has for clients, nil before.
	published *guest.Published
}

// member is an instance of a pool.
type member struct {
	in   *guest.Many
	load int // connections, from before their set-up until they are drained
	own  *session
	done chan struct{} // closed when it has left the pool
}

// starting is an instance that is being started.
type starting struct {
	done chan struct{}
	err  error
}

func newPool(cfg *Config, role Role, l *ledger) *pool {
	return &pool{cfg: cfg, role: role, ledger: l, ending: make(chan struct{})}
}

// acquire returns the least loaded instance, with one connection more. ctx
// bounds waiting for one to start.
func (p *pool) acquire(ctx context.Context) (*member, error) {
	waited := false
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, net.ErrClosed
		}
		m := p.least()
		full := m == nil || m.load >= p.cfg.MaxConns
		grow := (full || m.load >= growAt) && len(p.members) < p.cfg.Instances
		if grow {
			p.begin()
		}
		// Another instance is worth a moment, so that connections which come all at
		// once do not end up in the first one; but not the time after a failure. If
		// all are there and full, the instance itself refuses: connections that are
		// drained do not count for it.
		if !grow || !full && (waited || time.Now().Before(p.notNow)) {
			m.load++
			p.mu.Unlock()
			return m, nil
		}
		s, lastErr, notNow := p.starting, p.lastErr, p.notNow
		p.mu.Unlock()
		var enough <-chan time.Time
		if !full {
			waited = true
			enough = time.After(growWait)
		}
		select {
		case <-s.done:
			if s.err != nil && m == nil {
				return nil, s.err
			}
		case <-enough:
		case <-ctx.Done():
			if wait := time.Until(notNow); lastErr != nil && wait > 0 {
				return nil, fmt.Errorf("the next start is due in %v, after a failure: %w", wait.Round(time.Millisecond), lastErr)
			}
			return nil, context.Cause(ctx)
		}
	}
}

// least returns the member with the fewest connections, nil if there is none.
// The lock is held.
func (p *pool) least() (best *member) {
	for _, m := range p.members {
		if best == nil || m.load < best.load {
			best = m
		}
	}
	return best
}

// begin starts another instance in the background, after the backoff. The lock
// is held.
func (p *pool) begin() {
	if p.starting != nil {
		return
	}
	s := &starting{done: make(chan struct{})}
	p.starting = s
	wait := time.Until(p.notNow)
	go func() {
		m, err := p.startMember(wait)
		p.mu.Lock()
		p.starting = nil
		s.err = err
		switch {
		case err != nil:
			p.failed(err)
		case p.closed:
			m.stop()
			fallthrough
		default:
			p.checkPublished(m.in.Published())
			p.members = append(p.members, m)
			go p.run(m)
		}
		p.mu.Unlock()
		close(s.done)
	}()
}

// checkPublished warns of an instance that publishes something else for its clients than
// the first. The lock is held.
func (p *pool) checkPublished(now guest.Published) {
	if p.published == nil {
		p.published = &now
	} else if *p.published != now {
		p.cfg.Logger.Warn("another instance of the module publishes other arguments for its clients than the first; it needs a state directory to keep them in")
	}
}

func (p *pool) startMember(wait time.Duration) (*member, error) {
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ending:
			return nil, net.ErrClosed
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.cfg.SetupTimeout, errSetupTimeout)
	defer cancel()
	n := &network{cfg: p.cfg}
	o, err := p.cfg.options(p.role, n)
	if err != nil {
		return nil, err
	}
	o.Limits.Memory = cmp.Or(p.cfg.MaxMemory, DefaultManyMemory)
	in, err := guest.StartMany(ctx, p.cfg.Module.m, o)
	if err != nil {
		err = wrap("start module", err)
		p.ledger.note(err)
		return nil, err
	}
	m := &member{in: in, own: newSession(p.cfg, n, p.ledger), done: make(chan struct{})}
	in.Own.SetEnd(func(err error) { go m.own.end(err, func() {}) })
	m.own.instance, m.own.own = in, true
	m.own.use(in.Own, nil)
	return m, nil
}

// failed notes a failure, so that the next start comes later. The lock is held.
func (p *pool) failed(err error) {
	p.lastErr = err
	backoff := min(firstBackoff<<min(p.failures, 10), lastBackoff)
	p.failures++
	p.notNow = time.Now().Add(backoff)
}

// run lets an instance work until it ends.
func (p *pool) run(m *member) {
	began := time.Now()
	err := m.in.Run()
	p.mu.Lock()
	p.members = slices.DeleteFunc(p.members, func(o *member) bool { return o == m })
	p.kept = max(p.kept, m.in.KeepOpen())
	if err != nil && !errors.Is(err, guest.ErrAborted) {
		err = wrap("carry", err)
		p.ledger.note(err)
		if time.Since(began) >= longEnough {
			p.failures = 0
		}
		p.ledger.fail()
		p.failed(err)
		kind, _ := Kind(err)
		p.cfg.Logger.Warn("an instance that carried connections has failed", KindKey, "an instance: "+kind, "connections", m.load, "error", Scrub(err))
	}
	p.mu.Unlock()
	m.in.Release()
	close(m.done)
}

// keepOpen returns how long an incoming connection whose set-up fails is to be kept
// open from its beginning.
func (p *pool) keepOpen() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := p.kept
	for _, m := range p.members {
		longest = max(longest, m.in.KeepOpen())
	}
	return longest
}

// release takes a connection from an instance.
func (p *pool) release(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.load--
	if p.closed && m.load == 0 {
		m.stop()
	}
}

// stop ends an instance that has no connections.
func (m *member) stop() {
	m.in.Stop()
	time.AfterFunc(stopTimeout, func() { m.in.Abort(nil) })
}

// close ends the instances as soon as they have no connections, and makes
// acquire fail.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.ending)
	for _, m := range p.members {
		if m.load == 0 {
			m.stop()
		}
	}
}

// first returns an instance without a connection, started if there is none.
func (p *pool) first(ctx context.Context) (*member, error) {
	m, err := p.acquire(ctx)
	if err == nil {
		p.release(m)
	}
	return m, wrap("start module", err)
}

// open sets up a connection in one of the instances; set does so, and is called again,
// with another connection, if the instance was at its end. callers gets those of a
// multiplexed connection's callers, and must not block; nil if it cannot be multiplexed.
func (p *pool) open(ctx context.Context, n *network, o guest.ConnOptions, set func(context.Context, *guest.Conn) error, callers func(*session)) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.SetupTimeout, errSetupTimeout)
	defer cancel()
	op := "set up " + p.role.String()
	began := time.Now()
	for {
		m, err := p.acquire(ctx)
		if err != nil {
			return nil, wrap(op, err)
		}
		s := newSession(p.cfg, n, p.ledger)
		o.Host = n
		o.End = func(err error) { go p.end(m, s, err) }
		if callers != nil {
			o.OnCaller = func(c *guest.Conn) func() { return p.caller(m, n, c, callers) }
		}
		c := m.in.NewConn(o)
		s.use(c, c.App())
		err = set(ctx, c)
		if err == nil {
			s.setUp = time.Since(began)
			return s, nil
		}
		p.ledger.end(s)
		p.release(m)
		if !errors.Is(err, guest.ErrEnded) {
			err = wrap(op, err)
			if errors.Is(err, ErrLimit) { // traps are those of instances
				p.ledger.note(err)
			}
			return nil, err
		}
		<-m.done // it ended a moment ago
	}
}

// accept hands an accepted connection to one of the instances; see
// [serveGeneration.accept]. callers gets the callers' connections of a multiplexed one.
func (p *pool) accept(ctx context.Context, n *network, raw net.Conn, callers func(*session)) (s *session, rest *stream.Endpoint, err error) {
	peer, kept := guest.NewPeer(raw), true // as long as no instance has it
	s, err = p.open(ctx, n, guest.ConnOptions{}, func(ctx context.Context, c *guest.Conn) (err error) {
		kept, err = c.Incoming(ctx, peer)
		return err
	}, callers)
	switch {
	case err != nil && kept:
		return nil, peer, err
	case err != nil || s.in.(*guest.Conn).Multiplexed():
		return nil, nil, err
	}
	return s, nil, nil
}

// caller takes in a caller's connection that came over a multiplexed one, and returns
// what delivers it.
func (p *pool) caller(m *member, n *network, c *guest.Conn, callers func(*session)) (deliver func()) {
	p.mu.Lock()
	m.load++
	p.mu.Unlock()
	s := newSession(p.cfg, n, p.ledger)
	c.SetEnd(func(err error) { go p.end(m, s, err) })
	s.use(c, c.App())
	return func() { callers(s) }
}

// end lets a session drain and frees its place.
func (p *pool) end(m *member, s *session, err error) {
	s.end(err, func() { p.release(m) })
}
