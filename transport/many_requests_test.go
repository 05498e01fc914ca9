package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// anywhere grants every loopback address.
func anywhere(t *testing.T) []AddressRule {
	t.Helper()
	r, err := ParseAddressRule("127.0.0.0/8:*")
	if err != nil {
		t.Fatal(err)
	}
	return []AddressRule{r}
}

// TestConnectTwice: a transport may have several network connections for one
// caller. They are counted with it, and end with it.
func TestConnectTwice(t *testing.T) {
	x := newTroubled(t, testConfig(t, faults+inOne))
	l := loopback(t)
	near := dial(t, x, l.Addr().String(), fault("connect", "twice"))
	var far [2]*net.TCPConn // to write to, to read from
	for i := range far {
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		far[i] = c
	}
	up, down := pattern(1), pattern(2)
	const sent, got = 300_000, 500_000
	err := together(func() error {
		_, err := up.write(near, sent, always(5000))
		return errors.Join(err, near.CloseWrite())
	}, func() error {
		n, err := up.check(far[0], -1, always(5000))
		return complete(n, sent, err)
	}, func() error {
		_, err := down.write(far[1], got, always(5000))
		return errors.Join(err, far[1].CloseWrite())
	}, func() error {
		n, err := down.check(near, -1, always(5000))
		return complete(n, got, err)
	})
	if err != nil {
		t.Error(err)
	}
	if st, want := near.Stats(), (ConnStats{FromCaller: sent, ToCaller: got, FromNetwork: got, ToNetwork: sent}); st != want {
		t.Errorf("%+v, want %+v", st, want)
	}
	far[0].Close()
	within(t, "the end", func() { near.Close(); <-near.Done() })
	if n, err := io.Copy(io.Discard, far[1]); n > 0 || err != nil {
		t.Errorf("%d bytes and %v at the end", n, err)
	}
	far[1].Close()
	l.Close()
	x.check(t, 0)
}

// TestConnectNowhere: a transport need not connect to anything.
func TestConnectNowhere(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	x := newTroubled(t, cfg)
	near := dial(t, x, "192.0.2.1:1", fault("connect", "none"))
	if err := roundTrip(near, "hello"); err != nil {
		t.Error(err)
	}
	if got := near.RemoteAddr(); got.Network() != "tcp" || got.String() != "192.0.2.1:1" {
		t.Errorf("the remote address is %v, want what was dialed", got)
	}
	if got := near.LocalAddr().String(); got != "" {
		t.Errorf("the local address is %q", got)
	}
	near.Close()
	within(t, "the end", func() { <-near.Done() })
	// Bytes are counted when a write is over, which can be after they have been read.
	if st, want := near.Stats(), (ConnStats{FromCaller: 5, ToCaller: 5}); st != want {
		t.Errorf("%+v, want %+v", st, want)
	}
	x.check(t, 0)
}

// TestConnectTo: a transport dials addresses of its own choice if they are granted,
// in an instance that others share as in one of its own.
func TestConnectTo(t *testing.T) {
	address := echoServer(t)
	for _, module := range []string{faults, faults + inOne} {
		cfg := testConfig(t, module)
		d := newDialer(t, cfg)
		to := fault("connect", "to", "address", address)
		if c, err := d.Dial(t.Context(), "tcp", "192.0.2.1:1", to); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: without a grant: %v, %v", module, c, err)
		}
		cfg.Allow = anywhere(t)
		d = newDialer(t, cfg)
		for _, target := range []string{"192.0.2.1:1", ""} { // "": the host gives none
			near := dial(t, d, target, to)
			if err := roundTrip(near, "hello"); err != nil {
				t.Errorf("%s: %v", module, err)
			}
			if got := near.RemoteAddr().String(); got != address {
				t.Errorf("%s: the remote address is %v, want %v", module, got, address)
			}
		}
		rule, err := ParseAddressRule("@address")
		if err != nil {
			t.Fatal(err)
		}
		own := cfg
		own.Allow = []AddressRule{rule}
		byArgument := newDialer(t, own) // to where the connection's own argument leads
		if err := roundTrip(dial(t, byArgument, "192.0.2.1:1", to), "hello"); err != nil {
			t.Errorf("%s: by a rule with an argument: %v", module, err)
		}
		own.Allow[0], err = ParseAddressRule("@other")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := newDialer(t, own).Dial(t.Context(), "tcp", "192.0.2.1:1", to); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: by a rule with another argument: %v, %v", module, c, err)
		}
		for _, wrong := range []Args{
			fault("connect", "to", "address", ""),
			fault("connect", "to", "address", "127.0.0.1"),
			fault("connect", "to", "address", "127.0.0.1:99999"),
			fault("connect", "far"),
		} {
			if c, err := d.Dial(t.Context(), "tcp", "192.0.2.1:1", wrong); !errors.Is(err, ErrModule) {
				t.Errorf("%s: %v: %v, %v", module, wrong, c, err)
			}
		}
	}
}

// TestMaxDescriptors: what one connection has too much is refused to it alone, also
// if it closes what it has had.
func TestMaxDescriptors(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.MaxDescriptors = 5
	var counted connCounter
	cfg.Dial = counted.dial
	x := newTroubled(t, cfg)
	x.before = usage(t)
	for _, how := range []string{"hoard", "spend"} {
		counted.forget()
		silent := loopback(t) // while it says nothing, what the module has closed is drained
		_, err := x.Dial(t.Context(), "tcp", silent.Addr().String(), fault("connect", how))
		silent.Close()
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", how, err)
		}
		if n := counted.most + 1; n != cfg.MaxDescriptors { // one is the caller's
			t.Errorf("%s: %d connections were there at once, with a limit of %d", how, n, cfg.MaxDescriptors)
		}
	}
	x.check(t, 0)
}

// connCounter counts those of the connections that it has dialed which are still open.
type connCounter struct {
	mu     sync.Mutex
	dialed []*net.TCPConn // sockets, so that the runtime uses them as it uses its own
	most   int
}

func (c *connCounter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialed = append(c.dialed, conn.(*net.TCPConn))
	open := 0
	for _, d := range c.dialed {
		if raw, err := d.SyscallConn(); err == nil && raw.Control(func(uintptr) {}) == nil {
			open++
		}
	}
	c.most = max(c.most, open)
	return conn, nil
}

// forget makes what is open now no longer count.
func (c *connCounter) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialed, c.most = nil, 0
}

// TestCloseBefore: what a transport has written to a connection that it has closed
// arrives, even if its caller's connection ends first.
func TestCloseBefore(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	wires := make(chan net.Conn, 2)
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		inner, outer := net.Pipe() // nothing leaves before it is read
		wires <- outer
		return inner, nil
	}
	d := manyDialer(t, cfg)
	near := dial(t, d, "192.0.2.1:1", fault("connect", "relay"))
	first, second := <-wires, <-wires
	second.Close()
	near.Close()
	first.SetDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, first); n != 30_000 || err != nil {
		t.Errorf("%d of 30000 bytes arrived: %v", n, err)
	}
	within(t, "the end", func() { <-near.Done() })
}

// TestShared: a network connection that callers share outlives the first of them,
// takes its bytes from nobody's account but the dialer's, and is drained at the end.
func TestShared(t *testing.T) {
	cfg := quietConfig(t, "mux"+inOne)
	l := listen(t, cfg)
	serveEcho(t, l)
	dials := 0
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	d := manyDialer(t, cfg)
	address := l.Addr().String()
	first, second := dial(t, d, address, nil), dial(t, d, address, nil)
	stop := neighbour(t, second)
	if err := roundTrip(first, "hello"); err != nil {
		t.Error(err)
	}
	first.Abort()
	for range 5 {
		if err := roundTrip(dial(t, d, address, nil), "hello"); err != nil {
			t.Error(err)
		}
	}
	stop()
	if dials != 1 {
		t.Errorf("%d network connections", dials)
	}
	const size = 1 << 20
	p := pattern(1)
	if err := together(func() error {
		_, err := p.write(second, size, always(9000))
		return errors.Join(err, second.CloseWrite())
	}, func() error {
		n, err := p.check(second, -1, always(9000))
		return complete(n, size, err)
	}); err != nil {
		t.Error(err)
	}
	if st := second.Stats(); st.FromNetwork != 0 || st.ToNetwork != 0 || st.FromCaller == 0 || st.FromCaller != st.ToCaller {
		t.Errorf("a caller's connection has %+v", st)
	}
	if st := d.Stats(); st.ToNetwork < size || st.FromNetwork < size || st.ToNetwork < st.FromCaller || st.FromCaller < size {
		t.Errorf("the dialer has %+v", st)
	}
	// Together the two sides have counted the same bytes.
	d.Close()
	for _, s := range d.pool.ledger.sessions() {
		if s.app != nil {
			s.app.Close()
			s.close()
		}
	}
	awaitFigures(t, d, func(s figures) bool { return s == figures{} })
	awaitFigures(t, l, func(s figures) bool { return s.Connections == 0 })
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		out, in := d.Stats(), l.Stats()
		if len(d.pool.ledger.sessions()) == 0 && out.ToNetwork == in.FromNetwork && out.FromNetwork == in.ToNetwork {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the dialer has %+v, the listener %+v", out, in)
		}
	}
}

// TestRedial: a connection that the module has closed, and its peer as well, counts for
// no limit any more.
func TestRedial(t *testing.T) {
	for _, name := range []string{"probe_redial_v0", "probe_redial_v1", faults + inOne} {
		t.Run(name, func(t *testing.T) {
			l := loopback(t)
			last := make(chan duplex, 1)
			go func() {
				for range 100 {
					c, err := l.AcceptTCP()
					if err != nil {
						return
					}
					c.Close()
				}
				if c, err := l.AcceptTCP(); err == nil {
					last <- c
				}
			}()
			cfg := testConfig(t, name)
			cfg.MaxDescriptors = 6
			var args Args
			if name == faults+inOne {
				args = fault("connect", "again")
			}
			near := dial(t, newDialer(t, cfg), l.Addr().String(), args)
			far := <-last
			defer far.Close()
			if err := carries(near, far, "a line of text"); err != nil {
				t.Error(err)
			}
			await(t, "the counts of what was carried", func() bool {
				return near.Stats() == ConnStats{FromCaller: 14, ToCaller: 14, FromNetwork: 14, ToNetwork: 14}
			})
		})
	}
}
