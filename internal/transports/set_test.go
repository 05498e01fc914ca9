package transports

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

// checks records the configurations that are to be used.
type checks struct {
	mu   sync.Mutex
	got  []transport.Config
	fail error
}

func (c *checks) check(_ context.Context, cfg transport.Config) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail == nil {
		c.got = append(c.got, cfg)
	}
	return c.fail
}

func (c *checks) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *checks) options(lazy bool) Options {
	return Options{Name: "t", Args: transport.Args{"k": {"v"}}, Lazy: lazy, Check: c.check}
}

// newSet returns an empty set of what a catalog has, without a log.
func newSet(t *testing.T, c *catalog.Catalog) *Set {
	t.Helper()
	c.MakeState()
	return New(c, slog.New(slog.DiscardHandler), meter.New())
}

// prepare returns an empty set, and what writes into the directory of its transport t.
func prepare(t *testing.T) (s *Set, write func(file, text string)) {
	t.Helper()
	dir := t.TempDir()
	write = func(file, text string) {
		t.Helper()
		file = filepath.Join(dir, file)
		err := os.WriteFile(file+".new", []byte(text), 0o600)
		if err == nil {
			err = os.Rename(file+".new", file) // half of it is never to be seen
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("t.wasm", string(testmodules.Load(t, "plain_v1")))
	return newSet(t, &catalog.Catalog{Dir: dir, StateDir: t.TempDir()}), write
}

// dialer starts t as a client, which ends with the test.
func dialer(t *testing.T, s *Set, o Options) *transport.ReloadableDialer {
	t.Helper()
	d, err := s.NewDialer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// dial has a transport used.
func dial(t *testing.T, d transport.Dialer, address string) error {
	t.Helper()
	c, err := d.Dial(t.Context(), "tcp", address, nil)
	if err != nil {
		return err
	}
	return c.Abort()
}

// await waits until a transport has been loaded so many times.
func await(t *testing.T, g *checks, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); g.times() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("loaded %d times, want %d", g.times(), n)
		}
	}
}

// listen returns a listener that ends with the test, and its address.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().String()
}

func TestReload(t *testing.T) {
	s, write := prepare(t)
	g := &checks{}
	dialer(t, s, g.options(false))
	step := func(what string, want int) {
		t.Helper()
		s.Reload(t.Context())
		if got := g.times(); got != want {
			t.Errorf("%s: loaded %d times, want %d", what, got, want)
		}
	}
	step("nothing new", 1)
	if e := s.entries()[0]; e.tried != e.source {
		t.Error("what was read for nothing is kept, a module among it")
	}
	write("t.toml", "[limits]\nconnections = 5")
	step("settings", 2)
	if got := g.got[1]; got.MaxConns != 5 || got.Args["k"] == nil {
		t.Errorf("the settings are %+v", got)
	}
	write("t.toml", "nonsense")
	step("broken settings", 2)
	write("t.toml", "[limits]\nconnections = 5")
	step("settings as before", 3) // what came in between is not remembered
	g.fail = errors.New("does not start")
	write("t.toml", "[limits]\nconnections = 6")
	step("refused", 3)
	g.fail = nil
	step("refused before", 4) // perhaps it was the module's surroundings
	step("nothing new", 4)
}

// A transport that does not start leaves nothing.
func TestStartFails(t *testing.T) {
	s := newSet(t, &catalog.Catalog{})
	if _, err := s.NewDialer(t.Context(), Options{Name: "unknown"}); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
	g := &checks{fail: errors.New("x")}
	o := Options{Name: "plain", Check: g.check}
	if _, err := s.NewDialer(t.Context(), o); !errors.Is(err, g.fail) {
		t.Error(err)
	}
	for _, name := range []string{"unknown", "plain"} {
		inner, address := listen(t)
		o.Name = name
		if _, _, err := s.NewListener(t.Context(), o, inner); err == nil {
			t.Error("no error")
		}
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Errorf("%s: it still listens", name)
		}
	}
	g.fail = nil
	s.Reload(t.Context()) // nothing is there that would be used
	if g.times() != 0 {
		t.Error("a transport that did not start was loaded again")
	}
}

// A transport that started before is loaded once, as it is when it is used.
func TestLazy(t *testing.T) {
	s, write := prepare(t)
	dialer(t, s, (&checks{}).options(true))
	_, address := listen(t)
	g := &checks{fail: errors.New("does not start")}
	d := dialer(t, s, g.options(true))
	if g.times() != 0 {
		t.Error("it was loaded before it was used")
	}
	if err := dial(t, d, address); !errors.Is(err, g.fail) {
		t.Error(err)
	}
	g.fail = nil
	write("t.toml", "[limits]\nconnections = 5")
	s.Reload(t.Context())
	if g.times() != 0 {
		t.Error("it was loaded before it was used")
	}
	var users sync.WaitGroup
	for range 10 {
		users.Go(func() {
			if err := dial(t, d, address); err != nil {
				t.Error(err)
			}
		})
	}
	users.Wait()
	if g.times() != 1 || g.got[0].MaxConns != 5 || g.got[0].Args["k"] == nil {
		t.Errorf("it was loaded with %+v", g.got)
	}
	s.Reload(t.Context())
	write("t.toml", "[limits]\nconnections = 6")
	s.Reload(t.Context())
	if g.times() != 2 || g.got[1].MaxConns != 6 {
		t.Errorf("it was loaded again with %+v", g.got)
	}
}

// What has started without being loaded is loaded ahead of its first connection, once,
// and what cannot be loaded hinders nothing else.
func TestLoadAhead(t *testing.T) {
	s, _ := prepare(t)
	dialer(t, s, (&checks{}).options(true))
	warned := make(warnings, 1000)
	s.log = slog.New(slog.NewTextHandler(warned, nil))
	bad, good := &checks{fail: errors.New("does not start")}, &checks{}
	broken := dialer(t, s, bad.options(true))
	d := dialer(t, s, good.options(true))
	s.LoadAhead(t.Context())
	if line := <-warned; !strings.Contains(line, "transport=t") || !strings.Contains(line, "does not start") {
		t.Error(line)
	}
	if good.times() != 1 {
		t.Errorf("it was loaded %d times", good.times())
	}
	bad.fail = nil
	_, address := listen(t)
	for _, d := range []transport.Dialer{d, broken} {
		if err := dial(t, d, address); err != nil {
			t.Error(err)
		}
	}
	if good.times() != 1 || bad.times() != 1 {
		t.Errorf("loaded %d and %d times", good.times(), bad.times())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	unused := &checks{}
	dialer(t, s, unused.options(true))
	s.LoadAhead(ended)
	if unused.times() != 0 || len(warned) > 0 {
		t.Error("a process that ends loads modules")
	}
}

// A server that started before publishes what it published then, and is loaded by its
// first client.
func TestLazyListener(t *testing.T) {
	dir := t.TempDir()
	c := &catalog.Catalog{Dir: dir, StateDir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(dir, "t.wasm"), testmodules.Load(t, "go/argtest"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSet(t, c)
	o := Options{Name: "t", Args: transport.Args{"key": {"abc"}}, Lazy: true}
	var first transport.Published
	for i := range 3 {
		g := &checks{}
		o.Check = g.check
		inner, address := listen(t)
		l, published, err := s.NewListener(t.Context(), o, inner)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = published
		}
		// It has no state, so it is believed once it has published the same twice.
		if want := map[bool]int{true: 1, false: 0}[i < 2]; g.times() != want || !published.Equal(first) || first.Args == nil {
			t.Errorf("start %d: loaded %d times, published %v", i, g.times(), published)
		}
		client, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		await(t, g, 1)
		client.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// warnings is a log of which only the warnings are read.
type warnings chan string

func (w warnings) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "level=WARN") {
		w <- string(line)
	}
	return len(line), nil
}

// A file is loaded once it is at rest, and what is broken is not tried again and again.
func TestWatch(t *testing.T) {
	s, write := prepare(t)
	warned := make(warnings, 1000)
	s.log = slog.New(slog.NewTextHandler(warned, nil))
	g := &checks{}
	dialer(t, s, g.options(false))
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { s.Watch(ctx, 5*time.Millisecond) })
	defer watching.Wait()
	defer cancel()
	write("t.toml", "[limits]\nconnections = 5")
	await(t, g, 2)
	write("t.toml", "nonsense")
	<-warned
	write("t.toml", "[limits]\nconnections = 7")
	await(t, g, 3)
	if len(warned) > 0 {
		t.Errorf("what is broken was tried again: %s", <-warned)
	}
	if got := g.got[2].MaxConns; got != 7 {
		t.Errorf("loaded with %d connections", got)
	}
}
