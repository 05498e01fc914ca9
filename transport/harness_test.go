package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waterproxy/modules"
	"waterproxy/transport/testmodules"
)

var compiledModules sync.Map // name and engine to func() (*Module, error)

type compileKey struct {
	name        string
	interpreter bool
}

// wasmOf returns the file of a built-in module or a test module.
func wasmOf(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := modules.Load(name)
	if err != nil {
		wasm = testmodules.Load(t, name)
	}
	return wasm
}

// compile returns a test module or a built-in one, compiled once per run.
func compile(t testing.TB, name string, interpreter bool) *Module {
	t.Helper()
	name = strings.TrimSuffix(name, inOne)
	wasm := wasmOf(t, name)
	once, _ := compiledModules.LoadOrStore(compileKey{name, interpreter}, sync.OnceValues(func() (*Module, error) {
		return Compile(wasm, CompileOptions{CacheDir: cacheDir, Interpreter: interpreter})
	}))
	m, err := once.(func() (*Module, error))()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// inOne marks the name of a module one instance of which carries all connections
// of a test.
const inOne = "/many"

// testConfig logs to the test's output. Each connection has an instance of its own
// unless the module's name ends in inOne.
func testConfig(t testing.TB, name string) Config {
	name, many := strings.CutSuffix(name, inOne)
	instances := InstancePerConn
	if many {
		instances = 1
	}
	return Config{
		Module:       compile(t, name, false),
		Instances:    instances,
		Logger:       slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		SetupTimeout: patience,
		DrainTimeout: patience,
	}
}

// impatiently runs f with a SetupTimeout for what is not going to be set up. What is can
// take long on a busy machine.
func impatiently(cfg *Config, f func()) {
	was := cfg.SetupTimeout
	cfg.SetupTimeout = 300 * time.Millisecond
	f()
	cfg.SetupTimeout = was
}

// quietConfig does not log: for connections by the thousand.
func quietConfig(t testing.TB, name string) Config {
	cfg := testConfig(t, name)
	cfg.Logger = nil
	return cfg
}

// patience is how long a test waits for what must come. No machine is so busy that it
// takes that long.
const patience = 4 * time.Minute

// await waits until ok holds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain waited for:", what)
		}
	}
}

// within fails the test if f does not return.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s took longer than %v", what, patience)
	}
}

// loopback returns a TCP listener that the test closes at its end.
func loopback(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// duplex is what both ends of a connection can do.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// link makes connections through modules, any number at once. Near is the
// runtime's end; far is the plain one on the wire, or that of a second runtime.
type link func(ctx context.Context) (near Conn, far duplex, err error)

// clientLink has a module in the client role against plain TCP.
func clientLink(t testing.TB, cfg Config) link {
	t.Helper()
	return dialLink(t, newDialer(t, cfg), loopback(t))
}

// serverLink has a module in the server role against plain TCP.
func serverLink(t testing.TB, cfg Config) link {
	t.Helper()
	return acceptLink(t, listen(t, cfg))
}

func acceptLink(t testing.TB, l *Listener) link {
	x := exchange(t, l)
	return func(ctx context.Context) (Conn, duplex, error) {
		far, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, nil, err
		}
		near, err := x.take(ctx, far.LocalAddr())
		if err != nil {
			far.Close()
			return nil, nil, err
		}
		return near.(Conn), far.(*net.TCPConn), nil
	}
}

// pairLink has modules at both ends: near dialed, far accepted.
func pairLink(t testing.TB, client, server Config) link {
	t.Helper()
	if client.Module.SingleInstance() && client.Instances != InstancePerConn { // that is mux
		return sharedLink(t, client, server)
	}
	return dialLink(t, newDialer(t, client), listen(t, server))
}

func newDialer(t testing.TB, cfg Config) Dialer {
	t.Helper()
	d, err := NewDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func listen(t testing.TB, cfg Config) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), cfg, loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dialLink(t testing.TB, d Dialer, l net.Listener) link {
	x := exchange(t, l)
	return func(ctx context.Context) (Conn, duplex, error) {
		near, err := dialClient(ctx, d, l.Addr().String())
		if err != nil {
			return nil, nil, err
		}
		far, err := x.take(ctx, near.LocalAddr())
		if err != nil {
			near.Abort()
			return nil, nil, err
		}
		return near, far.(duplex), nil
	}
}

// relayLink has a module in the relay role between two plain TCP connections.
// Each begins with a number, by which the two are matched.
func relayLink(t testing.TB, cfg Config) func(ctx context.Context) (near, far duplex, err error) {
	t.Helper()
	outer := loopback(t)
	r, err := NewRelay(cfg, loopback(t), "tcp", outer.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		// What is in order ends by itself.
		await(t, "the end of what the relay carries", func() bool { return r.Stats().Connections == 0 })
		r.Abort()
	})
	return numberedLink(t, outer, func(ctx context.Context) (duplex, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", r.Addr().String())
		if err != nil {
			return nil, err
		}
		return c.(duplex), nil
	})
}

// numberedLink matches what dial returns with what l accepts where addresses do
// not tell.
func numberedLink(t testing.TB, l net.Listener, dial func(ctx context.Context) (duplex, error)) func(ctx context.Context) (near, far duplex, err error) {
	x := exchange(t, numbered{l})
	var last atomic.Uint32
	return func(ctx context.Context) (near, far duplex, err error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		id := last.Add(1)
		if _, err = c.Write(binary.BigEndian.AppendUint32(nil, id)); err == nil {
			var accepted net.Conn
			if accepted, err = x.take(ctx, number(id)); err == nil {
				return c, accepted.(numberedConn).duplex, nil
			}
		}
		c.Close()
		return nil, nil, err
	}
}

// sharedLink has modules at both ends that carry all connections over one.
func sharedLink(t testing.TB, client, server Config) link {
	t.Helper()
	d, l := newDialer(t, client), listen(t, server)
	pair := numberedLink(t, l, func(ctx context.Context) (duplex, error) {
		return d.Dial(ctx, "tcp", l.Addr().String(), nil)
	})
	return func(ctx context.Context) (Conn, duplex, error) {
		near, far, err := pair(ctx)
		if err != nil {
			return nil, nil, err
		}
		return numberedCaller{near.(Conn)}, far, nil
	}
}

// numberedCaller does not count the number.
type numberedCaller struct{ Conn }

func (c numberedCaller) Stats() ConnStats {
	st := c.Conn.Stats()
	st.FromCaller -= 4
	return st
}

// numbered accepts connections that begin with a number, and has it as their
// address.
type numbered struct{ net.Listener }

type numberedConn struct {
	duplex
	number
}

func (c numberedConn) LocalAddr() net.Addr  { return c.duplex.LocalAddr() }
func (c numberedConn) RemoteAddr() net.Addr { return c.number }

type number uint32

func (n number) Network() string { return "number" }
func (n number) String() string  { return fmt.Sprint(uint32(n)) }

func (l numbered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var id [4]byte
	_, err = io.ReadFull(c, id[:])
	return numberedConn{c.(duplex), number(binary.BigEndian.Uint32(id[:]))}, err
}

// connect makes one connection, which ends with the test.
func (l link) connect(t testing.TB) (Conn, duplex) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	near, far, err := l(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Abort()
		if c, ok := far.(Conn); ok {
			c.Abort()
		}
		far.Close()
	})
	return near, far
}

// switchboard hands out accepted connections by their remote address.
type switchboard struct {
	mu    sync.Mutex
	conns map[string]chan net.Conn
}

func exchange(t testing.TB, l net.Listener) *switchboard {
	x := &switchboard{conns: map[string]chan net.Conn{}}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.slot(c.RemoteAddr()) <- c
		}
	})
	t.Cleanup(func() {
		l.Close()
		accepting.Wait()
		for _, slot := range x.conns {
			select {
			case c := <-slot:
				c.Close()
			default:
			}
		}
	})
	return x
}

func (x *switchboard) slot(a net.Addr) chan net.Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.conns[a.String()]
	if c == nil {
		c = make(chan net.Conn, 1)
		x.conns[a.String()] = c
	}
	return c
}

func (x *switchboard) take(ctx context.Context, from net.Addr) (net.Conn, error) {
	defer func() {
		x.mu.Lock()
		delete(x.conns, from.String())
		x.mu.Unlock()
	}()
	select {
	case c := <-x.slot(from):
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("nothing was accepted: %w", context.Cause(ctx))
	}
}

// patternSize is prime, so that no loss of a whole number of buffers can hide.
const patternSize = 3<<20 + 11

var patternBytes = sync.OnceValue(func() []byte {
	b := make([]byte, patternSize)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// dialClient dials in the client role, and in no other.
func dialClient(ctx context.Context, d Dialer, address string) (Conn, error) {
	one, ok := d.(*RuntimeConnDialer)
	if !ok {
		return d.Dial(ctx, "tcp", address, nil)
	}
	c, err := one.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c, nil
}
