package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What becomes of one connection of an instance must not matter to the others. Each
// test here has a neighbour in the same instance, and nothing may be left of those
// that failed.

// fault makes arguments of the names and values that it is given.
func fault(pairs ...string) Args {
	args := Args{}
	for i := 0; i < len(pairs); i += 2 {
		args[pairs[i]] = append(args[pairs[i]], pairs[i+1])
	}
	return args
}

// troubled is a dialer whose one instance has a neighbour in it.
type troubled struct {
	*RuntimeDialer
	address    string // of an echo server
	goroutines int    // of the module
	before     resources
	stop       func() // ends the neighbour's round trips
}

func newTroubled(t *testing.T, cfg Config) *troubled {
	t.Helper()
	x := &troubled{RuntimeDialer: manyDialer(t, cfg), address: echoServer(t)}
	x.stop = neighbour(t, dial(t, x, x.address, nil))
	// The first have to make what is kept: goroutines of the SDK that wait for work, as
	// many as are ever in use at once.
	var all []Conn
	for range 4 {
		all = append(all, dial(t, x, x.address, nil))
	}
	for _, c := range all {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		within(t, "the end", func() { <-c.Done() })
	}
	x.goroutinesLeft(t)
	x.goroutines = x.goroutinesLeft(t)
	x.before = usage(t)
	return x
}

// check ends the test: the neighbour has noticed nothing, it is all that there is,
// and the module has lost no more goroutines than those that hang for ever.
func (x *troubled) check(t *testing.T, hang int) {
	t.Helper()
	x.stop()
	awaitFigures(t, x, func(s figures) bool { return s == figures{Instances: 1, Connections: 1} })
	if n := len(x.pool.ledger.sessions()); n != 2 { // the neighbour, and what belongs to the instance
		t.Errorf("%d connections are counted for, want the neighbour's and the instance's own", n)
	}
	if n := x.goroutinesLeft(t); n > x.goroutines+hang {
		t.Errorf("the module has %d goroutines, and had %d", n, x.goroutines)
	}
	awaitFigures(t, x, func(s figures) bool { return s.Connections == 1 })
	waitForUsage(t, x.before)
}

// goroutinesLeft asks the module how many goroutines it has.
func (x *troubled) goroutinesLeft(t *testing.T) int {
	t.Helper()
	c := dial(t, x, x.address, fault("tell", "goroutines"))
	n, err := strconv.Atoi(readLine(t, c))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-c.Done()
	return n
}

// readLine reads up to the end of a line, and no more.
func readLine(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	var line []byte
	for b := []byte{0}; ; line = append(line, b[0]) {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("%v after %q", err, line)
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// refusing returns an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l := loopback(t)
	l.Close()
	return l.Addr().String()
}

// TestSetUpFails: a set-up that fails has an error that says why.
func TestSetUpFails(t *testing.T) {
	x := newTroubled(t, testConfig(t, faults+inOne))
	for name, test := range map[string]struct {
		args    Args
		address string // that of the echo server unless it is given
		cancel  bool
		want    []error
		says    string
	}{
		"error":         {args: fault("setup", "error"), want: []error{ErrModule}, says: "the module says: this is the error that was asked for"},
		"panic":         {args: fault("setup", "panic"), want: []error{ErrModule}, says: "the module says: panic: as was asked for"},
		"hang":          {args: fault("setup", "hang"), cancel: true, want: []error{ErrNetwork, context.Canceled}},
		"wait":          {args: fault("setup", "wait"), cancel: true, want: []error{ErrNetwork, context.Canceled}},
		"dial refused":  {address: refusing(t), want: []error{ErrNetwork, syscall.ECONNREFUSED}},
		"bad address":   {address: "127.0.0.1:none", want: []error{ErrNetwork}},
		"not permitted": {args: fault("connect", "to", "address", x.address), want: []error{ErrPolicy}},
		"error after a dial was refused": {
			args: fault("connect", "else", "address", x.address, "setup", "error"),
			want: []error{ErrModule}, says: "the module says: this is the error that was asked for",
		},
	} {
		// So often that a table of descriptors would show if it kept any.
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if test.cancel {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
			address := test.address
			if address == "" {
				address = x.address
			}
			c, err := x.Dial(ctx, "tcp", address, test.args)
			cancel()
			if err == nil {
				t.Errorf("%s: no error", name)
				c.Abort()
			}
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, which is no %v", name, err, want)
				}
			}
			if !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("%s: %v, want %q", name, err, test.says)
			}
		}
	}
	x.check(t, 3)
}

// TestDialFails is for a module whose connections the host makes before it tells it.
func TestDialFails(t *testing.T) {
	cfg := testConfig(t, "plain"+inOne)
	never := "192.0.2.1:1"
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == never {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	d, address := manyDialer(t, cfg), echoServer(t)
	stop := neighbour(t, dial(t, d, address, nil))
	before := usage(t)
	if _, err := d.Dial(t.Context(), "tcp", refusing(t), nil); !errors.Is(err, ErrNetwork) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	impatiently(&d.cfg, func() {
		if _, err := d.Dial(t.Context(), "tcp", never, nil); !errors.Is(err, ErrNetwork) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("too slow: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := d.Dial(ctx, "tcp", never, nil); !errors.Is(err, ErrNetwork) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	stop()
	awaitFigures(t, d, func(s figures) bool { return s == figures{Instances: 1, Connections: 1} })
	waitForUsage(t, before)
}

// TestSetUpTimeout: a set-up that takes too long ends as the configuration says.
func TestSetUpTimeout(t *testing.T) {
	x := newTroubled(t, testConfig(t, faults+inOne))
	impatiently(&x.cfg, func() {
		_, err := x.Dial(t.Context(), "tcp", x.address, fault("setup", "wait"))
		if !errors.Is(err, ErrLimit) {
			t.Errorf("it ends with %v", err)
		}
	})
	x.check(t, 0)
}

// TestConnectionFails: a connection that fails has an error that says why, for its
// reader and as its end.
func TestConnectionFails(t *testing.T) {
	x := newTroubled(t, testConfig(t, faults+inOne))
	for name, test := range map[string]struct {
		args Args
		says string
	}{
		"panic in Read":  {fault("read", "panic"), "the module says: panic: as was asked for"},
		"panic in Write": {fault("write", "panic"), "the module says: panic: as was asked for"},
		"error in Read":  {fault("read", "error"), "the module says: this is the error that was asked for"},
		"error in Write": {fault("write", "error"), "the module says: this is the error that was asked for"},
	} {
		for range 3 {
			c := dial(t, x, x.address, test.args)
			if _, err := io.WriteString(c, "something"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			c.SetReadDeadline(time.Now().Add(patience))
			_, err := io.Copy(io.Discard, c)
			if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: reading says %v", name, err)
			}
			within(t, name, func() { <-c.Done() })
			if err := c.Err(); !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: it ended with %v", name, err)
			}
		}
	}
	x.check(t, 0)
}

// TestCloseFails: Close ends a connection whatever the transport's own Close does.
func TestCloseFails(t *testing.T) {
	x := newTroubled(t, testConfig(t, faults+inOne))
	for _, what := range []string{"panic", "error"} {
		for _, end := range []func(Conn) error{Conn.Close, Conn.Abort} {
			c := dial(t, x, x.address, fault("close", what))
			if err := roundTrip(c, "hello"); err != nil {
				t.Error(err)
			}
			if err := end(c); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			within(t, what, func() { <-c.Done() })
		}
	}
	x.check(t, 0)
}

// full returns a connection to a peer that reads nothing, with as much on its way
// as fits, and the peer's end.
func full(t *testing.T, d Dialer, args Args) (near Conn, far *net.TCPConn) {
	t.Helper()
	l := loopback(t)
	near = dial(t, d, l.Addr().String(), args)
	far, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	w := &progress{Writer: near}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = pattern(0).write(w, 1<<30, always(64<<10)) // until the connection is closed
	}()
	w.settled(t)
	l.Close()
	near.SetWriteDeadline(time.Now())
	<-wrote
	near.SetWriteDeadline(time.Time{})
	return near, far
}

// TestCloseWaits: a transport whose Close waits for the network holds up nobody
// else.
func TestCloseWaits(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.DrainTimeout = time.Second
	for _, end := range []func(Conn) error{Conn.Close, Conn.Abort} {
		x := newTroubled(t, cfg)
		c, far := full(t, x, fault("close", "flush"))
		if err := end(c); err != nil {
			t.Error(err)
		}
		within(t, "the end", func() { <-c.Done() })
		far.Close()
		x.check(t, 0)
	}
}

// TestCloseIgnored: DrainTimeout ends what the module does not.
func TestCloseIgnored(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.DrainTimeout = 100 * time.Millisecond
	x := newTroubled(t, cfg)
	c := dial(t, x, x.address, fault("close", "ignore", "read", "hang"))
	if _, err := io.WriteString(c, "something"); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	within(t, "the end", func() { <-c.Done() })
	if err := c.Err(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	x.check(t, 2) // the direction that hangs, and who waits for it
}

// TestEnds: however a connection ends, by its user or by its peer, there is nothing
// left of it.
func TestEnds(t *testing.T) {
	for _, module := range []string{faults, "plain"} {
		cfg := testConfig(t, module+inOne)
		cfg.DrainTimeout = 500 * time.Millisecond
		address := echoServer(t)
		d := manyDialer(t, cfg)
		stop := neighbour(t, dial(t, d, address, nil))
		l := loopback(t)
		before := usage(t)
		for name, test := range map[string]func(near Conn, far *net.TCPConn) (want error){
			"abort":                    func(near Conn, _ *net.TCPConn) error { near.Abort(); return nil },
			"reset":                    func(_ Conn, far *net.TCPConn) error { abort(far); return ErrNetwork },
			"close":                    func(near Conn, far *net.TCPConn) error { go echo(far); near.Close(); return nil },
			"close while it writes on": func(near Conn, far *net.TCPConn) error { go flood(far); near.Close(); return nil },
			"abort while it writes on": func(near Conn, far *net.TCPConn) error { go flood(far); near.Abort(); return nil },
		} {
			near := dial(t, d, l.Addr().String(), nil)
			far, err := l.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			want := test(near, far)
			if want != nil {
				_, err := io.Copy(io.Discard, near)
				if !errors.Is(err, want) {
					t.Errorf("%s, %s: reading says %v, want %v", module, name, err, want)
				}
			}
			within(t, name, func() { <-near.Done() })
			if err := near.Err(); !errors.Is(err, want) {
				t.Errorf("%s, %s: it ended with %v, want %v", module, name, err, want)
			}
			far.Close()
		}
		stop()
		awaitFigures(t, d, func(s figures) bool { return s == figures{Instances: 1, Connections: 1} })
		waitForUsage(t, before)
	}
}

// flood writes until the peer is gone.
func flood(c *net.TCPConn) {
	for {
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			c.Close()
			return
		}
	}
}

// knock connects to a listener whose module is faults, and says what to do.
func knock(t *testing.T, l net.Listener, args Args) *net.TCPConn {
	t.Helper()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	far.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(far, args); err != nil {
		t.Fatal(err)
	}
	return far.(*net.TCPConn)
}

// logText is a log that a test reads.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(lockedWriter{&l.mu, &l.b}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// await waits until the log has a text.
func (l *logText) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		all := l.b.String()
		l.mu.Unlock()
		if strings.Contains(all, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %q in the log:\n%s", text, all)
		}
	}
}

// TestServerFails: what one client does, or makes the module do, concerns no other.
func TestServerFails(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.SetupTimeout = 2 * time.Second
	cfg.DrainTimeout = 2 * time.Second
	var log logText
	cfg.Logger = log.logger()
	l := listen(t, cfg)
	serveEcho(t, l)
	stop := neighbour(t, knock(t, l, nil))
	before := usage(t)
	for _, test := range []struct {
		args Args
		says string
	}{
		{fault("setup", "error"), "the module says: this is the error that was asked for"},
		{fault("setup", "panic"), "the module says: panic: as was asked for"},
		{fault("setup", "wait"), "the module was not ready in time"},
		{fault("read", "panic"), "connection failed"},
		{fault("write", "error"), "connection failed"},
		{fault("close", "panic"), "panic: as was asked for"},
	} {
		far := knock(t, l, test.args)
		_, _ = io.WriteString(far, "something")
		if _, broken := test.args["close"]; broken {
			far.CloseWrite()
		}
		if _, err := io.Copy(io.Discard, far); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v: the connection is still there", test.args)
		}
		far.Close()
		log.await(t, test.says)
		log.mu.Lock()
		log.b.Reset()
		log.mu.Unlock()
	}
	// A peer that says nothing, and one that goes away.
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	silent.SetDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, silent); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection without a word is still there: %v", err)
	}
	silent.Close()
	log.await(t, "the module was not ready in time")
	abort(knock(t, l, nil))
	stop()
	awaitFigures(t, l, func(s figures) bool { return s == figures{Instances: 1, Connections: 1} })
	waitForUsage(t, before)
}

// TestCloseListenerSetUp: Close ends the set-ups that are under way, and the
// instance with them.
func TestCloseListenerSetUp(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	l := listen(t, cfg)
	var far []*net.TCPConn
	for _, args := range []Args{fault("setup", "wait"), fault("setup", "hang"), nil} {
		far = append(far, knock(t, l, args))
	}
	awaitFigures(t, l, func(s figures) bool { return s.Connections == len(far) })
	within(t, "Close", func() { l.Close() })
	for _, c := range far {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection is still there")
		}
	}
	awaitFigures(t, l, func(s figures) bool { return s == figures{} })
}
