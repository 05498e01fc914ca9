package transport

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// The integrity hammer. For the long version:
//
//	go test ./transport -run 'TestIntegrity$' -timeout 1h -integrity.conns 10000
//
// A failure names the connection's number and the run's seed; to repeat one:
//
//	go test ./transport -run 'TestIntegrity$' -integrity.seed 123 -integrity.only 45
var (
	integrityConns    = flag.Int("integrity.conns", pttest.Count(3000, 1000), "connections that TestIntegrity makes")
	integrityParallel = flag.Int("integrity.parallel", 64, "how many of them at once")
	integritySeed     = flag.Uint64("integrity.seed", 0, "seed of TestIntegrity; 0 chooses one")
	integrityOnly     = flag.Int("integrity.only", -1, "the one connection to make")
	integrityModule   = flag.String("integrity.module", "", "only modules whose names begin so")
)

// hammered is one way of making connections that the hammer uses.
type hammered struct {
	name  string
	link  func(ctx context.Context) (near, far duplex, err error)
	plain bool // the wire has the bytes as they are: count them
}

// window reports whether the transport has windows of its own, and shows the end of
// the network connection to its streams as an error of its own.
func (h hammered) window() bool { return strings.HasPrefix(h.name, "mux") }

// any makes the link one of the hammer's.
func (l link) any(ctx context.Context) (near, far duplex, err error) { return l(ctx) }

// working returns the names of the test modules that carry a stream unharmed:
// reverse does not, by its nature, and probe begins with a report. The module in
// C for many connections has no role for one.
func working(t *testing.T) (names []string) {
	for _, name := range append([]string{"plain"}, testmodules.Names(t, "")...) {
		_, bad := strings.CutPrefix(name, "bad_")
		_, evil := strings.CutPrefix(name, "evil_")
		_, reverse := strings.CutPrefix(name, "reverse_")
		_, probe := strings.CutPrefix(name, "probe_")
		if !bad && !evil && !reverse && !probe && name+inOne != reference {
			names = append(names, name)
		}
	}
	names = append(names, "evil_both_abis", "evil_ignore_control_v0", "evil_ignore_control_v1")
	return append(names, "reverse", "mux", "plain"+inOne, "reverse"+inOne, "mux"+inOne, reference)
}

// transforms reports whether the bytes on the wire are not those of the caller,
// so that a module is needed at both ends.
func transforms(name string) bool {
	return strings.Contains(name, "xor") || strings.Contains(name, "framed") ||
		strings.HasPrefix(name, "reverse") || strings.HasPrefix(name, "mux") || strings.HasPrefix(name, "threads")
}

// offers reports whether connections in the role are possible, each in an instance
// of its own or many in one, as the configuration has it.
func offers(cfg Config, r Role) bool { return cfg.carriesMany(r) || cfg.Module.CheckRole(r) == nil }

// hammers lists every module in every role that it has.
func hammers(t *testing.T) (hs []hammered) {
	for _, name := range working(t) {
		cfg := quietConfig(t, name)
		client, server := offers(cfg, RoleClient), offers(cfg, RoleServer)
		if client && server {
			hs = append(hs, hammered{name + "/pair", pairLink(t, cfg, cfg).any, false})
		}
		if client && !transforms(name) {
			hs = append(hs, hammered{name + "/client", clientLink(t, cfg).any, true})
		}
		if cfg.Module.CheckRole(RoleRelay) == nil && !transforms(name) {
			hs = append(hs, hammered{name + "/relay", relayLink(t, cfg), true})
		}
		if server && !transforms(name) {
			hs = append(hs, hammered{name + "/server", serverLink(t, cfg).any, true})
		}
	}
	return hs
}

// TestIntegrity makes many connections at once through all working modules, with
// random sizes, chunks, pauses and ends, and accounts for every byte.
func TestIntegrity(t *testing.T) {
	seed := *integritySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	hs := hammers(t)
	if *integrityModule != "" {
		hs = slices.DeleteFunc(hs, func(h hammered) bool { return !strings.HasPrefix(h.name, *integrityModule) })
	}
	var next, bytes int64
	var mu sync.Mutex
	var failures atomic.Int32
	worker := func() {
		for failures.Load() < 20 {
			mu.Lock()
			i := int(next)
			next++
			mu.Unlock()
			if i >= *integrityConns {
				return
			}
			if *integrityOnly >= 0 && i != *integrityOnly {
				continue
			}
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			// Every module and role takes its turn, every ending at random.
			e := &exchangeTest{hammered: hs[i%len(hs)], rng: rng, ending: endings[rng.IntN(len(endings))]}
			if err := e.run(t.Context()); err != nil {
				failures.Add(1)
				t.Errorf("connection %d of seed %d: %s, %s: %v", i, seed, e.name, e.ending.name, err)
			}
			mu.Lock()
			bytes += e.bytes
			mu.Unlock()
		}
	}
	var workers sync.WaitGroup
	for range *integrityParallel {
		workers.Go(worker)
	}
	workers.Wait()
	t.Logf("%d connections, %d modules and roles, %d MB", *integrityConns, len(hs), bytes>>20)
}

// exchangeTest is what happens on one connection.
type exchangeTest struct {
	hammered
	rng    *rand.Rand
	ending ending
	near   duplex // the caller's end, but in the relay role
	far    duplex
	up     leg // near to far
	down   leg
	bytes  int64
}

// leg is one direction.
type leg struct {
	pattern
	size       int64
	got        int64
	err        error
	rIn, rOut  *rand.Rand
	slowReader bool
}

// ending is one way in which a connection is used and ends.
type ending struct {
	name string
	run  func(e *exchangeTest) error
}

var endings = []ending{
	{"caller writes and closes at once", func(e *exchangeTest) error { return e.oneWay(e.near, e.far, &e.up) }},
	{"wire writes and closes at once", func(e *exchangeTest) error { return e.oneWay(e.far, e.near, &e.down) }},
	{"caller closes while the wire writes", (*exchangeTest).closeWhileReceiving},
	{"caller half-closes, wire answers", func(e *exchangeTest) error { return e.askAnswer(e.near, e.far, &e.up, &e.down) }},
	{"wire half-closes, caller answers", func(e *exchangeTest) error { return e.askAnswer(e.far, e.near, &e.down, &e.up) }},
	{"both at once", func(e *exchangeTest) error { return e.bothWays() }},
	{"wire resets", (*exchangeTest).reset},
	{"caller aborts", (*exchangeTest).abort},
	{"caller closes unread", (*exchangeTest).closeUnread},
}

func (e *exchangeTest) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e.up, e.down = e.newLeg(), e.newLeg()
	if e.near, e.far, err = e.link(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w (up %d of %d, down %d of %d, %+v)", err, e.up.got, e.up.size, e.down.got, e.down.size, stats(e.near))
		}
		abort(e.near)
		abort(e.far)
	}()
	// Whatever gets patience fails.
	deadline := time.Now().Add(patience)
	e.near.SetDeadline(deadline)
	e.far.SetDeadline(deadline)
	if err := e.ending.run(e); err != nil {
		return err
	}
	if c, ok := e.near.(Conn); ok {
		select {
		case <-c.Done():
		case <-ctx.Done():
			return errors.New("the connection did not end")
		}
	}
	return nil
}

// abort ends a connection of any kind at once.
func abort(c duplex) error {
	switch c := c.(type) {
	case Conn:
		return c.Abort()
	case *net.TCPConn:
		_ = c.SetLinger(0)
	}
	return c.Close()
}

func stats(c duplex) (st ConnStats) {
	if c, ok := c.(Conn); ok {
		st = c.Stats()
	}
	return st
}

func (e *exchangeTest) newLeg() leg {
	size := int64(0)
	if e.rng.IntN(8) > 0 {
		size = e.rng.Int64N(1 << e.rng.IntN(21))
	}
	return leg{
		pattern: pattern(e.rng.Uint32()), size: size, slowReader: e.rng.IntN(4) == 0,
		rIn: rand.New(rand.NewPCG(e.rng.Uint64(), 1)), rOut: rand.New(rand.NewPCG(e.rng.Uint64(), 2)),
	}
}

// chunks returns random sizes, of a magnitude of its own, with pauses now and
// then.
func chunks(r *rand.Rand, slow bool) func() int {
	limit := 1 << (4 + r.IntN(14))
	pauses := r.IntN(2) == 0
	return func() int {
		switch {
		case slow && r.IntN(64) == 0, pauses && r.IntN(512) == 0:
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
		// Small pieces, but not for a whole megabyte.
		return limit/2 + 1 + r.IntN(limit)
	}
}

func (l *leg) send(w io.Writer) error {
	n, err := l.write(w, l.size, chunks(l.rOut, false))
	if err != nil {
		return fmt.Errorf("write after %d bytes: %w", n, err)
	}
	return nil
}

// receive reads to the end of the stream.
func (l *leg) receive(r io.Reader) error {
	l.got, l.err = l.check(r, -1, chunks(l.rIn, l.slowReader))
	switch {
	case l.err != nil:
		return fmt.Errorf("read after %d bytes: %w", l.got, l.err)
	case l.got != l.size:
		return fmt.Errorf("%d of %d bytes arrived", l.got, l.size)
	}
	return nil
}

// account checks the runtime's own count of what it carried in full.
func (e *exchangeTest) account(up, down bool) error {
	e.bytes = e.up.got + e.down.got
	c, ok := e.near.(Conn)
	if !ok {
		return nil
	}
	st := c.Stats()
	if up && (st.FromCaller != e.up.size || e.plain && st.ToNetwork != e.up.size) ||
		down && (st.ToCaller != e.down.size || e.plain && st.FromNetwork != e.down.size) {
		return errors.New("the counts are wrong")
	}
	return nil
}

// together runs all of fs and returns their errors.
func together(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (e *exchangeTest) oneWay(from, to duplex, l *leg) error {
	err := together(func() error {
		if err := l.send(from); err != nil {
			return err
		}
		return from.Close()
	}, func() error { return errors.Join(l.receive(to), to.Close()) })
	return errors.Join(err, e.account(l == &e.up, l == &e.down))
}

// closeWhileReceiving: what arrives after Close does not harm what was written
// before.
func (e *exchangeTest) closeWhileReceiving() error {
	if _, ok := e.near.(*net.TCPConn); ok { // a kernel's socket would reset instead
		return e.bothWays()
	}
	err := together(func() error {
		if err := e.up.send(e.near); err != nil {
			return err
		}
		return e.near.Close()
	}, func() error {
		_ = e.down.send(e.far) // may fail
		return nil
	}, func() error { return e.up.receive(e.far) })
	return errors.Join(err, e.far.Close(), e.account(true, false))
}

func (e *exchangeTest) askAnswer(from, to duplex, ask, answer *leg) error {
	err := together(func() error {
		if err := errors.Join(ask.send(from), from.CloseWrite()); err != nil {
			return err
		}
		return errors.Join(answer.receive(from), from.Close())
	}, func() error {
		if err := ask.receive(to); err != nil {
			return err
		}
		if err := answer.send(to); err != nil {
			return err
		}
		return to.Close()
	})
	return errors.Join(err, e.account(true, true))
}

func (e *exchangeTest) bothWays() error {
	err := together(
		func() error { return errors.Join(e.up.send(e.near), e.near.CloseWrite()) },
		func() error { return errors.Join(e.down.send(e.far), e.far.CloseWrite()) },
		func() error { return e.up.receive(e.far) },
		func() error { return e.down.receive(e.near) },
	)
	return errors.Join(err, e.near.Close(), e.far.Close(), e.account(true, true))
}

// reset: what arrived until then is right, and the caller is told that it is not
// all there was.
func (e *exchangeTest) reset() error {
	part := e.rng.Int64N(e.up.size + 1)
	_, caller := e.near.(Conn)
	_, wire := e.far.(*net.TCPConn)
	err := together(func() error {
		_ = e.up.send(e.near) // may fail
		n, err := e.down.check(e.near, -1, chunks(e.down.rIn, false))
		e.down.got = n
		switch {
		case err != nil && caller && !errors.Is(err, ErrNetwork) && !e.window():
			return fmt.Errorf("reset, but read: %w", err)
		case err == nil && caller && wire:
			return errors.New("a reset looks like a clean end")
		}
		return nil
	}, func() error {
		if n, err := e.up.check(e.far, part, chunks(e.up.rIn, e.up.slowReader)); err != nil || n != part {
			return fmt.Errorf("read %d of %d bytes before the reset: %w", n, part, err)
		}
		return abort(e.far)
	})
	return errors.Join(err, e.near.Close())
}

// abort: what arrived is right, and nothing hangs.
func (e *exchangeTest) abort() error {
	part := e.rng.Int64N(e.down.size + 1)
	return together(func() error {
		_ = e.down.send(e.far) // may fail
		n, err := e.up.check(e.far, -1, chunks(e.up.rIn, false))
		e.up.got = n
		if n > e.up.size || err != nil && strings.Contains(err.Error(), "wrong bytes") {
			return fmt.Errorf("after the abort: %w", err)
		}
		return e.far.Close()
	}, func() error {
		if n, err := e.down.check(e.near, part, chunks(e.down.rIn, false)); err != nil || n != part {
			return fmt.Errorf("read %d of %d bytes before the abort: %w", n, part, err)
		}
		_ = e.near.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_ = e.up.send(e.near)
		return abort(e.near)
	})
}

// closeUnread: bytes that nobody reads do not keep a connection alive, nor harm
// those of the other direction.
func (e *exchangeTest) closeUnread() error {
	if _, ok := e.near.(*net.TCPConn); ok {
		return e.bothWays()
	}
	if e.window() { // nobody reads: it must fit
		e.down.size %= 128 << 10
	}
	err := e.down.send(e.far)
	if err != nil {
		return err
	}
	err = together(func() error {
		if err := e.up.send(e.near); err != nil {
			return err
		}
		return e.near.Close()
	}, func() error { return errors.Join(e.up.receive(e.far), e.far.Close()) })
	return errors.Join(err, e.account(true, false))
}

// TestIntegrityMessages is for reverse, which turns each piece around that it
// reads: pieces that are sent one at a time come back as they were after two
// modules, and turned around after one.
func TestIntegrityMessages(t *testing.T) {
	for _, name := range []string{"reverse_v0", "reverse_v1"} {
		cfg := quietConfig(t, name)
		for kind, l := range map[string]link{"client": clientLink(t, cfg), "server": serverLink(t, cfg), "pair": pairLink(t, cfg, cfg)} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				near, far := l.connect(t)
				for i := range 100 {
					want := pattern(i * 1000).bytes(1 + i*7)
					from, to := duplex(near), far
					if i%2 == 1 {
						from, to = to, from
					}
					got := make([]byte, len(want))
					err := together(func() error {
						_, err := from.Write(want)
						return err
					}, func() error {
						_, err := io.ReadFull(to, got)
						return err
					})
					if kind != "pair" {
						slices.Reverse(got)
					}
					if err != nil || !slices.Equal(got, want) {
						t.Fatalf("message %d of %d bytes: %v", i, len(want), err)
					}
				}
			})
		}
	}
}
