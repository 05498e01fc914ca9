package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// faults is the test module that misbehaves as it is told.
const faults = "go/faults"

// manyDialer is a dialer whose connections share instances. At the end of the test
// no instance of it may be left.
func manyDialer(t testing.TB, cfg Config) *RuntimeDialer {
	t.Helper()
	d, err := NewRuntimeDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range d.pool.ledger.sessions() {
			s.abort()
		}
		awaitFigures(t, d, func(s figures) bool { return s.Instances == 0 })
	})
	return d
}

// figures are those of a Stats that tests of instances compare.
type figures struct{ Instances, Connections, Failures int }

func figuresOf(d interface{ Stats() Stats }) figures {
	return d.Stats().figures()
}

func (s Stats) figures() figures { return figures{s.Instances, s.Connections, int(s.Failures)} }

// awaitFigures waits for figures that ok accepts.
func awaitFigures(t testing.TB, d interface{ Stats() Stats }, ok func(figures) bool) {
	t.Helper()
	awaitStats(t, d, func(s Stats) bool { return ok(s.figures()) })
}

// awaitStats waits for figures that ok accepts.
func awaitStats(t testing.TB, d interface{ Stats() Stats }, ok func(Stats) bool) {
	t.Helper()
	var s Stats
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s = d.Stats(); ok(s) {
			return
		}
	}
	t.Errorf("the figures stay at %+v", s)
}

// echoServer returns the address of a server that sends back what it gets.
func echoServer(t testing.TB) string {
	t.Helper()
	l := loopback(t)
	serveEcho(t, l)
	return l.Addr().String()
}

// serveEcho sends back what comes over the connections that l accepts.
func serveEcho(t testing.TB, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// echo sends back what it gets, and closes.
func echo(c net.Conn) {
	defer c.Close()
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
}

// roundTrip sends a text to an echo server and reads it back.
func roundTrip(c net.Conn, text string) error {
	c.SetDeadline(time.Now().Add(patience))
	defer c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, text); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		return fmt.Errorf("%q came back of %q: %w", got[:n], text, err)
	}
	return nil
}

// neighbour keeps a connection busy until stop is called: whatever becomes of
// others, it has to work all the time.
func neighbour(t testing.TB, c net.Conn) (stop func()) {
	halt := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := roundTrip(c, fmt.Sprintf("round trip %d", i)); err != nil {
				ended <- fmt.Errorf("round trip %d: %w", i, err)
				return
			}
			select {
			case <-halt:
				ended <- nil
				return
			case <-time.After(time.Millisecond): // leave the processor to the others
			}
		}
	}()
	return func() {
		t.Helper()
		close(halt)
		if err := <-ended; err != nil {
			t.Errorf("a neighbour suffered: %v", err)
		}
	}
}

// dial makes a connection that has to come about. It ends with the test.
func dial(t testing.TB, d Dialer, address string, args Args) Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := d.Dial(ctx, "tcp", address, args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

// TestInstances: as many instances as the configuration says share the
// connections, and no more. Another one is started when all are in use.
func TestInstances(t *testing.T) {
	address := echoServer(t)
	for instances, want := range map[int]int{1: 1, 3: 3, 0: min(runtime.GOMAXPROCS(0), 8)} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			cfg := quietConfig(t, "plain")
			cfg.Instances = instances
			d := manyDialer(t, cfg)
			var conns []Conn
			for i := range 8 * want {
				conns = append(conns, dial(t, d, address, nil))
				d.pool.settle(t)
				if s := figuresOf(d); s.Instances > want || s.Connections != i+1 || i < growAt && s.Instances != 1 {
					t.Fatalf("after %d connections: %+v", i+1, s)
				}
			}
			least, most := len(conns), 0
			for _, m := range d.pool.members {
				least, most = min(least, m.in.Load()), max(most, m.in.Load())
			}
			if len(d.pool.members) != want || most-least > 1 {
				t.Errorf("%d instances with %d to %d connections, want %d with as many each", len(d.pool.members), least, most, want)
			}
			for _, c := range conns {
				if err := roundTrip(c, "hello"); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			awaitFigures(t, d, func(s figures) bool { return s.Connections == 0 })
		})
	}
}

// settle waits until no instance is being started.
func (p *pool) settle(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	s := p.starting
	p.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("an instance does not start")
	}
}

// TestSingleInstance: a module that declares itself one has one, whatever the
// configuration says.
func TestSingleInstance(t *testing.T) {
	cfg := quietConfig(t, "mux")
	cfg.Instances = 3
	l := listen(t, cfg)
	serveEcho(t, l)
	d := manyDialer(t, cfg)
	for range 3 * growAt {
		if err := roundTrip(dial(t, d, l.Addr().String(), nil), "hello"); err != nil {
			t.Error(err)
		}
		d.pool.settle(t)
		if s := figuresOf(d); s.Instances != 1 {
			t.Errorf("the dialer has %+v", s)
		}
	}
	if s := figuresOf(l); s.Instances != 1 {
		t.Errorf("the listener has %+v", s)
	}
}

// TestInstancePerConn: connections share an instance unless the configuration
// forbids it.
func TestInstancePerConn(t *testing.T) {
	address := echoServer(t)
	for _, instances := range []int{InstancePerConn, 0} {
		cfg := quietConfig(t, "plain")
		cfg.Instances = instances
		near := dial(t, newDialer(t, cfg), address, nil)
		l := listen(t, cfg)
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		accepted, err := l.AcceptRuntime()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Abort()
		for _, c := range []Conn{near, accepted} {
			_, alone := c.(*RuntimeConn)
			if want := instances == InstancePerConn; alone != want {
				t.Errorf("Instances is %d, the connection a %T", instances, c)
			}
		}
		if s, want := figuresOf(l), (figures{Instances: 1, Connections: 1}); s != want {
			t.Errorf("Instances is %d, the listener has %+v", instances, s)
		}
	}
}

// TestMaxConns: what is too much for an instance fails, and makes no difference to
// the others. There is room again when one has ended.
func TestMaxConns(t *testing.T) {
	address := echoServer(t)
	for _, instances := range []int{1, 3} {
		for _, most := range []int{1, 5} {
			t.Run(fmt.Sprintf("%d of %d", instances, most), func(t *testing.T) {
				cfg := quietConfig(t, "plain")
				cfg.Instances, cfg.MaxConns = instances, most
				d := manyDialer(t, cfg)
				var conns []Conn
				for range instances * most {
					conns = append(conns, dial(t, d, address, nil))
				}
				stop := neighbour(t, conns[0])
				for range 3 {
					if c, err := d.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrLimit) {
						t.Errorf("beyond the limit: %v, %v", c, err)
					}
				}
				stop()
				last := conns[len(conns)-1]
				if err := roundTrip(last, "hello"); err != nil {
					t.Error(err)
				}
				last.Abort()
				dial(t, d, address, nil)
			})
		}
	}
}

// TestMaxInstances: instances that are shared count as others do.
func TestMaxInstances(t *testing.T) {
	cfg := quietConfig(t, "plain")
	awaitInstances(t, cfg.Module, 0) // of earlier tests
	cfg.Instances, cfg.MaxInstances = 1, 1
	address := echoServer(t)
	d, other := manyDialer(t, cfg), manyDialer(t, cfg)
	stop := neighbour(t, dial(t, d, address, nil))
	if c, err := other.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrLimit) {
		t.Errorf("beyond the limit: %v, %v", c, err)
	}
	stop()
}

// TestCloseDialer: what is up goes on, and the instance goes with the last of it.
func TestCloseDialer(t *testing.T) {
	cfg := testConfig(t, "plain"+inOne)
	awaitInstances(t, cfg.Module, 0) // of earlier tests
	address := echoServer(t)
	d := manyDialer(t, cfg)
	a, b := dial(t, d, address, nil), dial(t, d, address, nil)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", address); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial after Close: %v", err)
	}
	if err := d.Start(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
	a.Close()
	if err := roundTrip(b, "still there"); err != nil {
		t.Error(err)
	}
	if n := cfg.Module.Instances(); n != 1 {
		t.Errorf("%d instances while a connection is up, want 1", n)
	}
	b.Close()
	awaitInstances(t, cfg.Module, 0)
	if err := d.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

// awaitInstances waits until a module has n instances.
func awaitInstances(t testing.TB, m *Module, n int) {
	t.Helper()
	for end := time.Now().Add(patience); m.Instances() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d instances, want %d", m.Instances(), n)
		}
	}
}

// TestDoneCountsNoMore: when a connection is over, nothing of it counts.
func TestDoneCountsNoMore(t *testing.T) {
	address := echoServer(t)
	for _, name := range []string{"plain" + inOne, "plain_v1"} {
		cfg := quietConfig(t, name)
		cfg.MaxInstances, cfg.MaxConns = 1, 1
		d := newDialer(t, cfg)
		for i := range 200 {
			c := dial(t, d, address, nil)
			if err := roundTrip(c, "hello"); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				c.Abort()
			} else {
				c.Close()
			}
			<-c.Done()
			if many, ok := d.(*RuntimeDialer); ok && figuresOf(many).Connections != 0 {
				t.Fatalf("after connection %d: %+v", i+1, figuresOf(many))
			}
			if n := cfg.Module.Instances(); name == "plain_v1" && n != 0 {
				t.Fatalf("after connection %d there are %d instances", i+1, n)
			}
		}
	}
}

// TestCloseIdleDialer: an instance without connections goes at once, and one that
// is being started is not used.
func TestCloseIdleDialer(t *testing.T) {
	cfg := testConfig(t, "plain"+inOne)
	awaitInstances(t, cfg.Module, 0) // of earlier tests
	d := manyDialer(t, cfg)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Close()
	awaitInstances(t, cfg.Module, 0)

	d = manyDialer(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Start(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Start: %v", err)
	}
	d.Close()
	d.pool.settle(t)
	awaitInstances(t, cfg.Module, 0)
}

// TestCloseListener is TestCloseDialer for the other side.
func TestCloseListener(t *testing.T) {
	cfg := testConfig(t, "plain"+inOne)
	awaitInstances(t, cfg.Module, 0) // of earlier tests
	l, err := Listen(t.Context(), cfg, loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	go echo(far)
	if err := roundTrip(near, "still there"); err != nil {
		t.Error(err)
	}
	if n := cfg.Module.Instances(); n != 1 {
		t.Errorf("%d instances while a connection is up, want 1", n)
	}
	near.Close()
	awaitInstances(t, cfg.Module, 0)
}

// TestBulkNeighbour: a large transfer does not hold up the others of its instance.
func TestBulkNeighbour(t *testing.T) {
	const size = 64 << 20
	d := manyDialer(t, quietConfig(t, "plain"+inOne))
	stop := neighbour(t, dial(t, d, echoServer(t), nil))
	near, far := dialLink(t, d, loopback(t)).connect(t)
	up, down := pattern(1), pattern(2)
	err := together(
		func() error { _, err := up.write(near, size, always(1<<20)); return err },
		func() error { n, err := up.check(far, size, always(64<<10)); return complete(n, size, err) },
		func() error { _, err := down.write(far, size, always(1<<20)); return err },
		func() error { n, err := down.check(near, size, always(64<<10)); return complete(n, size, err) },
	)
	if err != nil {
		t.Error(err)
	}
	stop()
}
