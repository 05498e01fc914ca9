package measure

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newPath is a path of plain TCP whose near ends are changed by wrap.
func newPath(t *testing.T, wrap func(net.Conn) net.Conn) *Path {
	t.Helper()
	o, err := NewOrigin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Path{
		Origin: o,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", o.Addr())
			if err != nil || wrap == nil {
				return c, err
			}
			return wrap(c), nil
		},
		Client:  Self(),
		Timeout: time.Minute,
	}
}

// tiny is the smallest of every size.
func tiny() Options {
	o := QuickOptions()
	o.Size = 1 << 20
	o.Setups, o.Workers, o.Pings, o.Parallel = 4, 2, 10, 3
	o.Echo = 256 << 10
	o.Tries = 2
	o.Slow = SlowOptions{Size: 1 << 20, Pause: time.Millisecond, Burst: 300_000, Nap: time.Millisecond}
	o.Idle = []int{2, 3}
	o.IdleWatch = time.Millisecond
	o.Stall = StallOptions{Conns: 3, AtOnce: 2, Pings: 20, Turns: 2}
	return o
}

// TestSuiteOnTCP runs every test on a path that works: no test may find fault
// with it, and each must yield what it declares.
func TestSuiteOnTCP(t *testing.T) {
	p := newPath(t, nil)
	o := tiny()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range Suite(o) {
		t.Run(test.Name, func(t *testing.T) {
			sample, err := test.Run(t.Context(), p, 1)
			if err != nil {
				t.Fatal(err)
			}
			known := make(map[string]bool)
			for _, m := range test.Metrics {
				known[m.Key] = true
			}
			for key := range sample {
				if !known[key] {
					t.Errorf("%s is not declared", key)
				}
			}
			if _, ok := sample[test.Metrics[0].Key]; !ok {
				t.Errorf("no %s in %v", test.Metrics[0].Key, sample)
			}
		})
	}
}

// flaw is a connection that does one thing wrong.
type flaw struct {
	net.Conn
	write func(c net.Conn, b []byte) (int, error)
	read  func(c net.Conn, b []byte) (int, error)
	close func(c net.Conn) error
}

func (f flaw) Write(b []byte) (int, error) {
	if f.write != nil {
		return f.write(f.Conn, b)
	}
	return f.Conn.Write(b)
}

func (f flaw) Read(b []byte) (int, error) {
	if f.read != nil {
		return f.read(f.Conn, b)
	}
	return f.Conn.Read(b)
}

func (f flaw) Close() error {
	if f.close != nil {
		return f.close(f.Conn)
	}
	return f.Conn.Close()
}

// afterOpening lets the ticket and its answer through and then does as f does.
func afterOpening(f flaw) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		var writes, reads atomic.Int64
		return flaw{
			Conn: c,
			write: func(c net.Conn, b []byte) (int, error) {
				if f.write == nil || writes.Add(1) == 1 {
					return c.Write(b)
				}
				return f.write(c, b)
			},
			read: func(c net.Conn, b []byte) (int, error) {
				if f.read == nil || reads.Add(1) == 1 {
					return c.Read(b)
				}
				return f.read(c, b)
			},
			close: f.close,
		}
	}
}

// TestFlawsAreFound gives every test that checks bytes a path that does it wrong.
func TestFlawsAreFound(t *testing.T) {
	swallow := func(_ net.Conn, b []byte) (int, error) { return len(b), nil }
	swallowLarge := func(c net.Conn, b []byte) (int, error) {
		if len(b) > pingSize {
			return len(b), nil
		}
		return c.Write(b)
	}
	flip := func(c net.Conn, b []byte) (int, error) {
		changed := append([]byte(nil), b...)
		changed[len(changed)/2] ^= 1
		return c.Write(changed)
	}
	flipRead := func(c net.Conn, b []byte) (int, error) {
		n, err := c.Read(b)
		if n > 0 {
			b[n/2] ^= 1
		}
		return n, err
	}
	half := func(c net.Conn, b []byte) (int, error) {
		if _, err := c.Write(b[:len(b)/2]); err != nil {
			return 0, err
		}
		return len(b), c.Close()
	}
	o := tiny()
	for _, c := range []struct {
		name string
		flaw flaw
		run  func(ctx context.Context, p *Path) error
	}{
		{"integrity finds a changed bit", flaw{write: flip}, func(ctx context.Context, p *Path) error {
			_, err := CheckIntegrity(ctx, p, o.Echo, 1, time.Minute)
			return err
		}},
		{"ping finds a changed bit", flaw{read: flipRead}, func(ctx context.Context, p *Path) error {
			_, err := MeasurePings(ctx, p, 3)
			return err
		}},
		{"closing up finds a changed bit", flaw{write: flip}, func(ctx context.Context, p *Path) error {
			_, err := CheckClosing(ctx, p, Up, 1000, 1)
			return err
		}},
		{"closing up finds lost bytes", flaw{write: swallow}, func(ctx context.Context, p *Path) error {
			_, err := CheckClosing(ctx, p, Up, 1000, 1)
			return err
		}},
		{"closing down finds a changed bit", flaw{read: flipRead}, func(ctx context.Context, p *Path) error {
			_, err := CheckClosing(ctx, p, Down, 1000, 1)
			return err
		}},
		{"stall finds a changed bit", flaw{read: flipRead}, func(ctx context.Context, p *Path) error {
			_, err := MeasureStall(ctx, p, o.Stall)
			return err
		}},
		{"stall finds a lack of back pressure", flaw{write: swallowLarge}, func(ctx context.Context, p *Path) error {
			_, err := MeasureStall(ctx, p, o.Stall)
			return err
		}},
		{"slow reader finds a changed bit", flaw{write: flip}, func(ctx context.Context, p *Path) error {
			_, err := CheckSlowReader(ctx, p, Up, o.Slow)
			return err
		}},
		{"slow reader finds lost bytes", flaw{write: swallow}, func(ctx context.Context, p *Path) error {
			_, err := CheckSlowReader(ctx, p, Up, o.Slow)
			return err
		}},
		{"bulk finds lost bytes", flaw{write: half}, func(ctx context.Context, p *Path) error {
			_, err := MeasureBulk(ctx, p, BulkOptions{Up, 1, 100_000, time.Second, 100_000, time.Minute})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.run(t.Context(), newPath(t, afterOpening(c.flaw))); err == nil {
				t.Error("not found")
			}
		})
	}
}

// TestBulkStall: a path that takes bytes and delivers none must be given up.
func TestBulkStall(t *testing.T) {
	t.Parallel()
	p := newPath(t, afterOpening(flaw{write: func(_ net.Conn, b []byte) (int, error) { return len(b), nil }}))
	_, err := MeasureBulk(t.Context(), p, BulkOptions{Up, 2, 1 << 20, time.Second, 1 << 16, 50 * time.Millisecond})
	if !errors.Is(err, ErrStalled) || !errors.Is(err, ErrLost) {
		t.Errorf("got %v, want ErrStalled and ErrLost", err)
	}
}

// TestStallFindsAQueueForAll: connections that wait for one another must not be
// waited for.
func TestStallFindsAQueueForAll(t *testing.T) {
	t.Parallel()
	var line sync.Mutex
	p := newPath(t, afterOpening(flaw{write: func(c net.Conn, b []byte) (int, error) {
		line.Lock()
		defer line.Unlock()
		return c.Write(b)
	}}))
	p.Timeout = time.Second
	if _, err := MeasureStall(t.Context(), p, tiny().Stall); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
}

// TestStallTakesTurns: a path that is slow only while a connection is stalled
// must show it, whichever kind of turn comes first.
func TestStallTakesTurns(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	var stalled atomic.Bool
	var slow, quick atomic.Int64 // round trips
	p := newPath(t, afterOpening(flaw{write: func(c net.Conn, b []byte) (int, error) {
		if len(b) > pingSize {
			stalled.Store(true)
			n, err := c.Write(b)
			if err != nil {
				stalled.Store(false)
			}
			return n, err
		}
		if stalled.Load() {
			slow.Add(1)
			time.Sleep(delay)
		} else {
			quick.Add(1)
		}
		return c.Write(b)
	}}))
	o := tiny().Stall
	s, err := MeasureStall(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	each := int64(o.Pings * o.Turns)
	if s.Stalled.P50 < delay || slow.Load() != each || quick.Load() != each {
		t.Errorf("got %+v, from %d slow and %d quick round trips; want %d of each, and the delay of %v", s, slow.Load(), quick.Load(), each, delay)
	}
}

// TestSetupsEndInTime: a number of connections that would take for ever is cut
// off.
func TestSetupsEndInTime(t *testing.T) {
	t.Parallel()
	p := newPath(t, nil)
	const many, limit = 1 << 40, 20 * time.Millisecond
	s, err := MeasureSetups(t.Context(), p, many, limit)
	if err != nil || s.First.P50 < s.Dial.P50 || s.Dial.P50 <= 0 || s.Direct.P50 <= 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	if rate, err := MeasureSetupRate(t.Context(), p, many, 2, limit); err != nil || rate <= 0 {
		t.Errorf("got a rate of %v, %v", rate, err)
	}
}

// TestACloseThatBlocksHoldsNothingUp: some libraries' Close can wait for ever.
func TestACloseThatBlocksHoldsNothingUp(t *testing.T) {
	t.Parallel()
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	p := newPath(t, afterOpening(flaw{close: func(c net.Conn) error {
		err := c.Close()
		<-forever
		return err
	}}))
	l, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the limit itself would take long
	if err := l.CloseNear(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if n, err := CheckClosing(t.Context(), p, Up, 1000, 2); n != 2 || err != nil {
		t.Errorf("closing: %d of 2, %v", n, err)
	}
}

// TestOpenGivesUp: neither a dial that ignores its context nor a path that
// leads nowhere may hold up Open.
func TestOpenGivesUp(t *testing.T) {
	t.Parallel()
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	stuck := newPath(t, nil)
	stuck.Timeout = 10 * time.Millisecond
	stuck.Dial = func(context.Context) (net.Conn, error) {
		<-forever
		return nil, net.ErrClosed
	}
	if _, err := stuck.Open(t.Context()); !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial that blocks: got %v, want ErrTimeout", err)
	}
	p := newPath(t, nil)
	p.Timeout = stuck.Timeout
	p.Dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go io.Copy(io.Discard, far)
		return near, nil
	}
	if _, err := p.Open(t.Context()); !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("path to nowhere: got %v, want ErrTimeout", err)
	}
	for _, o := range []*Origin{stuck.Origin, p.Origin} {
		o.mu.Lock()
		if n := len(o.waiting); n != 0 {
			t.Errorf("%d tickets are left", n)
		}
		o.mu.Unlock()
	}
}

// TestOriginDropsStrangers: a connection without a ticket is closed, and the
// origin goes on.
func TestOriginDropsStrangers(t *testing.T) {
	p := newPath(t, nil)
	c, err := net.Dial("tcp", p.Origin.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, ticketSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a stranger was answered")
	}
	l, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Abort()
}

func TestValidate(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Error(err)
	}
	if err := QuickOptions().Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Options){
		"size":       func(o *Options) { o.Size = 0 },
		"tries":      func(o *Options) { o.Tries = -1 },
		"burst":      func(o *Options) { o.Slow.Burst = 0 },
		"idle none":  func(o *Options) { o.Idle = nil },
		"idle order": func(o *Options) { o.Idle = []int{10, 5} },
		"turns":      func(o *Options) { o.Stall.Turns = 0 },
	} {
		o := DefaultOptions()
		spoil(&o)
		if o.Validate() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestBackPressure: a path that takes whatever comes has none.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	taken, err := CheckBackPressure(t.Context(), newPath(t, afterOpening(flaw{})))
	if err != nil || taken <= 0 || taken > stallMost {
		t.Errorf("over TCP %d bytes are taken, %v", taken, err)
	}
	p := newPath(t, afterOpening(flaw{write: func(_ net.Conn, b []byte) (int, error) { return len(b), nil }}))
	if taken, err := CheckBackPressure(t.Context(), p); err == nil {
		t.Errorf("a path without an end takes %d bytes, and that is not found", taken)
	}
}
