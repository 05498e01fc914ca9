package transport

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// private compiles a module that the test may close.
func private(t *testing.T, name string) *Module {
	t.Helper()
	m, err := Compile(wasmOf(t, name), CompileOptions{CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// echoed fails the test if a connection does not bring back what it is given.
func echoed(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if err := roundTrip(c, text); err != nil {
		t.Error(err)
	}
}

// reloadable runs f for shared instances and for one to each connection.
func reloadable(t *testing.T, f func(t *testing.T, cfg func() Config)) {
	for name, module := range map[string]string{"shared": reference, "each": "plain_v1"} {
		t.Run(name, func(t *testing.T) {
			f(t, func() Config {
				cfg := testConfig(t, module)
				cfg.Module = private(t, strings.TrimSuffix(module, inOne))
				return cfg
			})
		})
	}
}

// New connections are carried by the new module, and old ones by the old one, which
// is gone when they are.
func TestReloadDialer(t *testing.T) {
	reloadable(t, func(t *testing.T, config func() Config) {
		first, second := config(), config()
		echo := echoServer(t)
		d, err := NewReloadableDialer(first)
		if err != nil {
			t.Fatal(err)
		}
		dial := func() Conn {
			t.Helper()
			c, err := d.Dial(t.Context(), "tcp", echo, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		old := dial()
		one := d.Stats().Memory
		if err := d.Reload(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		if err := first.Module.Close(); err != nil {
			t.Fatal(err)
		}
		fresh := dial()
		echoed(t, old, "old")
		echoed(t, fresh, "new")
		awaitInstances(t, first.Module, 1)
		awaitInstances(t, second.Module, 1)
		if u := d.Stats(); u.Instances != 2 || one == 0 || u.Memory != 2*one {
			t.Errorf("usage %+v, want that of two instances", u)
		}
		old.Close()
		awaitInstances(t, first.Module, 0)
		echoed(t, fresh, "still there")

		third := config()
		third.MaxMemory = 1
		if err := d.Reload(t.Context(), third); !errors.Is(err, ErrLimit) {
			t.Errorf("a module that does not start: %v", err)
		}
		echoed(t, dial(), "as before")
		if u := d.Stats(); u.Limits > 1 || u.Refused != 0 {
			t.Errorf("usage %+v", u)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Reload(t.Context(), config()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reload after close: %v", err)
		}
	})
}

// A listener likewise; its socket stays.
func TestReloadListener(t *testing.T) {
	reloadable(t, func(t *testing.T, config func() Config) {
		first, second := config(), config()
		l, err := Listen(t.Context(), first, loopback(t))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		connect := func() (near net.Conn, far Conn) {
			t.Helper()
			near, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			far, err = l.AcceptRuntime()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { near.Close(); far.Close() })
			go io.Copy(far, far) // an error shows in what comes back
			return near, far
		}
		oldNear, oldFar := connect()
		if err := l.Reload(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		if err := first.Module.Close(); err != nil {
			t.Fatal(err)
		}
		freshNear, _ := connect()
		echoed(t, oldNear, "old")
		echoed(t, freshNear, "new")
		awaitInstances(t, first.Module, 1)
		awaitInstances(t, second.Module, 1)
		oldNear.Close()
		oldFar.Close()
		awaitInstances(t, first.Module, 0)
		echoed(t, freshNear, "still there")
		broken := config()
		broken.MaxMemory = 1
		if err := l.Reload(t.Context(), broken); !errors.Is(err, ErrLimit) {
			t.Errorf("a module that does not start: %v", err)
		}
		near, far := connect()
		echoed(t, near, "as before")
		if far.SetupTime() <= 0 {
			t.Error("the set-up took no time")
		}
	})
}

// Connections that are being set up while the module is replaced again and again
// are lost neither.
func TestReloadUnderDials(t *testing.T) {
	reloadable(t, func(t *testing.T, config func() Config) {
		echo := echoServer(t)
		cfg := config()
		next := make([]Config, 100)
		for i := range next {
			next[i] = config()
		}
		d, err := NewReloadableDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var dialers sync.WaitGroup
		for range 4 {
			dialers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := d.Dial(t.Context(), "tcp", echo, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if err := roundTrip(c, "hello"); err != nil {
						t.Error(err)
					}
					c.Close()
				}
			})
		}
		for _, next := range next {
			if err := d.Reload(t.Context(), next); err != nil {
				t.Error(err)
			}
			cfg.Module.Close()
			cfg = next
		}
		close(stop)
		dialers.Wait()
		d.Close()
		cfg.Module.Close()
		awaitInstances(t, cfg.Module, 0)
	})
}

// A module that can't be a client, or does not start, is found out at once, and leaves
// the dialer without a configuration.
func TestReloadRefuses(t *testing.T) {
	for name, layer := range map[string]error{
		"plain_acceptonly_v1": ErrRole,
		"plain_relayonly_v1":  ErrRole,
		"evil_trap_init_v1":   ErrTrap,
		"evil_init_eperm_v1":  ErrModule,
	} {
		d := NewLazyDialer(nil)
		if err := d.Reload(t.Context(), testConfig(t, name)); !errors.Is(err, layer) {
			t.Errorf("%s: %v, want a %v", name, err, layer)
		}
		if _, err := d.Dial(t.Context(), "tcp", "192.0.2.1:1", nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: a dial without a configuration: %v", name, err)
		}
		d.Close()
	}
}
