package transport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reference is the module in C that shows authors how to serve many connections in
// one instance (watm/c/plain.c).
const reference = "many_c" + inOne

// TestReferenceModuleRoles: it can do nothing but what it is there to show.
func TestReferenceModuleRoles(t *testing.T) {
	cfg := testConfig(t, reference)
	if roles := cfg.Module.ManyRoles(); !slices.Equal(roles, []Role{RoleClient, RoleServer}) {
		t.Errorf("roles for many connections: %v", roles)
	}
	if roles := cfg.Module.Roles(); len(roles) > 0 {
		t.Errorf("roles for one connection: %v", roles)
	}
	cfg.Instances = InstancePerConn
	if _, err := NewDialer(cfg); !errors.Is(err, ErrRole) {
		t.Errorf("an instance for each connection: %v", err)
	}
}

// referenceLinks has the module on each side, and on both.
func referenceLinks(t testing.TB) map[string]link {
	cfg := testConfig(t, reference)
	return map[string]link{"client": clientLink(t, cfg), "server": serverLink(t, cfg), "pair": pairLink(t, cfg, cfg)}
}

// TestReferenceModuleEndings: a connection can be used and end in every way.
func TestReferenceModuleEndings(t *testing.T) {
	for role, l := range referenceLinks(t) {
		for i, ending := range endings {
			t.Run(role+"/"+ending.name, func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(5) {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					h := hammered{name: role, link: l.any, plain: role != "pair"}
					e := &exchangeTest{hammered: h, rng: rng, ending: ending}
					if err := e.run(t.Context()); err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
				}
			})
		}
	}
}

// TestReferenceModuleHalfClose: one direction is over long before the other.
func TestReferenceModuleHalfClose(t *testing.T) {
	const size = patternSize
	for role, l := range referenceLinks(t) {
		for _, first := range []string{"caller", "wire"} {
			t.Run(role+"/"+first, func(t *testing.T) {
				near, far := l.connect(t)
				from, to := duplex(near), far
				if first == "wire" {
					from, to = to, from
				}
				deadline := time.Now().Add(patience)
				from.SetDeadline(deadline)
				to.SetDeadline(deadline)
				if err := from.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, to); n != 0 || err != nil {
					t.Fatalf("%d bytes, %v before the end of an empty stream", n, err)
				}
				p := pattern(5)
				err := together(func() error {
					_, err := p.write(to, size, always(10_000))
					return errors.Join(err, to.CloseWrite())
				}, func() error {
					n, err := p.check(from, -1, always(20_000))
					return complete(n, size, err)
				})
				if err != nil {
					t.Error(err)
				}
				within(t, "ending", func() { <-near.Done() })
				if err := near.Err(); err != nil {
					t.Errorf("it ended with %v", err)
				}
			})
		}
	}
}

// TestReferenceModuleCloseInFlight: what was written before Close arrives, although
// the network did not take it yet.
func TestReferenceModuleCloseInFlight(t *testing.T) {
	for role, l := range referenceLinks(t) {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			near, far := l.connect(t)
			far.SetDeadline(time.Now().Add(patience))
			p, in := pattern(6), &progress{Writer: near}
			written := make(chan int64, 1)
			go func() { // until everything on the way is full
				n, err := p.write(in, 1<<40, always(10_000))
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				written <- n
			}()
			in.settled(t)
			near.SetWriteDeadline(time.Now())
			size := <-written
			if err := near.Close(); err != nil {
				t.Error(err)
			}
			n, err := p.check(far, -1, always(10_000))
			if err := errors.Join(complete(n, size, err), far.Close()); err != nil {
				t.Error(err)
			}
			within(t, "ending", func() { <-near.Done() })
			if err := near.Err(); err != nil {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestReferenceModuleFailures: a dial that is refused and a connection that breaks
// concern nobody else in the instance.
func TestReferenceModuleFailures(t *testing.T) {
	d, err := NewRuntimeDialer(testConfig(t, reference))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	l := dialLink(t, d, loopback(t))
	near, far := l.connect(t)
	near.SetDeadline(time.Now().Add(patience))
	far.SetDeadline(time.Now().Add(patience))
	nobody := loopback(t)
	nobody.Close()
	for range 10 {
		_, err := d.DialContext(t.Context(), "tcp", nobody.Addr().String())
		if !errors.Is(err, ErrNetwork) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("a refused dial: %v", err)
		}
		broken, wire := l.connect(t)
		if err := abort(wire); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, broken); !errors.Is(err, ErrNetwork) || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("a reset connection: %v", err)
		}
		broken.Close()
		if err := carries(near, far, "a line of text"); err != nil {
			t.Fatalf("another connection suffered: %v", err)
		}
	}
	if s := figuresOf(d); s.Instances != 1 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// TestReferenceModuleAbandonedDial: the answer to a dial that comes after its
// connection has been given up is no connection's.
func TestReferenceModuleAbandonedDial(t *testing.T) {
	cfg := testConfig(t, reference)
	wire := loopback(t)
	hang, hung := make(chan struct{}), make(chan struct{}, 1)
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case <-hang:
		case hung <- struct{}{}:
			<-hang
		}
		return new(net.Dialer).Dial(network, address)
	}
	d, err := NewRuntimeDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hung
		cancel()
	}()
	if _, err := d.DialContext(ctx, "tcp", wire.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Fatalf("a dial that was given up: %v", err)
	}
	close(hang)
	near, far := dialLink(t, d, wire).connect(t)
	if err := carries(near, far, "a line of text"); err != nil {
		t.Error(err)
	}
}

// TestReferenceModuleMany: one instance carries hundreds of connections at once,
// and ends when it is not needed any more.
func TestReferenceModuleMany(t *testing.T) {
	const conns, size = 500, 100_003
	cfg := quietConfig(t, reference)
	d, err := NewRuntimeDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, cfg)
	pair := dialLink(t, d, l)
	nears, fars := make([]Conn, conns), make([]duplex, conns)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var err error
			if nears[i], fars[i], err = pair(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for side, s := range map[string]figures{"client": figuresOf(d), "server": figuresOf(l)} {
		if s.Instances != 1 || s.Connections != conns || s.Failures != 0 {
			t.Errorf("%s: %+v", side, s)
		}
	}
	// Each stays open until all have carried everything.
	for i := range conns {
		deadline := time.Now().Add(2 * patience)
		nears[i].SetDeadline(deadline)
		fars[i].SetDeadline(deadline)
		up, down := pattern(2*i), pattern(2*i+1)
		for _, leg := range []struct {
			p        pattern
			from, to duplex
		}{{up, nears[i], fars[i]}, {down, fars[i], nears[i]}} {
			wg.Go(func() {
				if n, err := leg.p.write(leg.from, size, always(9001)); err != nil {
					t.Errorf("connection %d: write after %d bytes: %v", i, n, err)
				}
			})
			wg.Go(func() {
				if n, err := leg.p.check(leg.to, size, always(8009)); err != nil {
					t.Errorf("connection %d: read after %d bytes: %v", i, n, err)
				}
			})
		}
	}
	wg.Wait()
	for i := range conns {
		wg.Go(func() {
			if err := together(nears[i].Close, fars[i].Close); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	within(t, "ending", func() {
		for _, near := range nears {
			<-near.Done()
		}
	})
	if err := errors.Join(d.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	// After five seconds the host would lose its patience.
	within(t, "the end of the instances", func() {
		for figuresOf(d).Instances+figuresOf(l).Instances > 0 {
			time.Sleep(time.Millisecond)
		}
	})
}
