package transport

import (
	"context"
	"log/slog"
	"net"
	"sync"
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

// compile returns a test module or a built-in one, compiled once per run.
func compile(t testing.TB, name string, interpreter bool) *Module {
	t.Helper()
	once, _ := compiledModules.LoadOrStore(compileKey{name, interpreter}, sync.OnceValues(func() (*Module, error) {
		wasm, err := modules.Load(name)
		if err != nil {
			wasm = testmodules.Load(t, name)
		}
		return Compile(wasm, CompileOptions{CacheDir: cacheDir, Interpreter: interpreter})
	}))
	m, err := once.(func() (*Module, error))()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// testConfig logs to the test's output.
func testConfig(t testing.TB, name string) Config {
	return Config{
		Module:       compile(t, name, false),
		Logger:       slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		DrainTimeout: 10 * time.Second,
	}
}

// within fails the test if f takes longer than it ever should.
func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s took longer than %v", what, d)
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

// dialPair returns both ends of a connection through a module in the client
// role: the runtime's, and the plain one on the wire.
func dialPair(t testing.TB, d *RuntimeConnDialer, l net.Listener) (*RuntimeConn, net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	wire := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(wire)
			return
		}
		wire <- c
	}()
	c, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	return c, <-wire, nil
}
