package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

// target records what it is given.
type target struct {
	mu   sync.Mutex
	got  []transport.Config
	fail error
}

func (g *target) Reload(_ context.Context, cfg transport.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail == nil {
		g.got = append(g.got, cfg)
	}
	return g.fail
}

func (g *target) times() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.got)
}

func adjust(cfg *transport.Config) { cfg.Args = transport.Args{"k": {"v"}} }

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
	return New(&catalog.Catalog{Dir: dir}, slog.New(slog.DiscardHandler)), write
}

// start returns a set in which t has started.
func start(t *testing.T) (s *Set, g *target, write func(file, text string)) {
	t.Helper()
	s, write = prepare(t)
	g = &target{}
	if err := s.Start(t.Context(), "t", adjust, g); err != nil {
		t.Fatal(err)
	}
	return s, g, write
}

func TestReload(t *testing.T) {
	s, g, write := start(t)
	step := func(what string, want int) {
		t.Helper()
		s.Reload(t.Context())
		if got := g.times(); got != want {
			t.Errorf("%s: loaded %d times, want %d", what, got, want)
		}
	}
	step("nothing new", 1)
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

func TestStartFails(t *testing.T) {
	s := New(&catalog.Catalog{}, slog.New(slog.DiscardHandler))
	if err := s.Start(t.Context(), "unknown", nil, nil); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
	g := &target{fail: errors.New("x")}
	if err := s.Start(t.Context(), "plain", nil, g); !errors.Is(err, g.fail) {
		t.Error(err)
	}
	g.fail = nil
	s.Reload(t.Context()) // nothing is there that would be used
	if g.times() != 0 {
		t.Error("a transport that did not start was loaded again")
	}
}

// A transport that has not been used is loaded once, as it is when it is used.
func TestStartLater(t *testing.T) {
	s, write := prepare(t)
	g := &target{fail: errors.New("does not start")}
	load := s.StartLater("t", adjust, g)
	if err := load(t.Context()); !errors.Is(err, g.fail) {
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
			if err := load(t.Context()); err != nil {
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
	s, g, write := start(t)
	warned := make(warnings, 1000)
	s.log = slog.New(slog.NewTextHandler(warned, nil))
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { s.Watch(ctx, 5*time.Millisecond) })
	defer watching.Wait()
	defer cancel()
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); g.times() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("loaded %d times, want %d", g.times(), n)
			}
		}
	}
	write("t.toml", "[limits]\nconnections = 5")
	await(2)
	write("t.toml", "nonsense")
	<-warned
	write("t.toml", "[limits]\nconnections = 7")
	await(3)
	if len(warned) > 0 {
		t.Errorf("what is broken was tried again: %s", <-warned)
	}
	if got := g.got[2].MaxConns; got != 7 {
		t.Errorf("loaded with %d connections", got)
	}
}
