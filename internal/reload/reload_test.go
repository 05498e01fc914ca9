package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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

// start returns a set with one transport, and the directory that it is in.
func start(t *testing.T) (s *Set, g *target, write func(file, text string)) {
	t.Helper()
	dir := t.TempDir()
	write = func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("t.wasm", string(testmodules.Load(t, "plain_v1")))
	s, g = New(&catalog.Catalog{Dir: dir}, slog.New(slog.DiscardHandler)), &target{}
	adjust := func(cfg *transport.Config) { cfg.Args = transport.Args{"k": {"v"}} }
	err := s.Start("t", adjust, func(cfg transport.Config) (Target, error) { return g, g.Reload(t.Context(), cfg) })
	if err != nil {
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
	if err := s.Start("unknown", nil, nil); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
	fail := errors.New("x")
	if err := s.Start("plain", nil, func(transport.Config) (Target, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Error(err)
	}
	s.Reload(t.Context()) // nothing is there that would be used
}

// A file is loaded once it is at rest, and what is broken is not tried again and again.
func TestWatch(t *testing.T) {
	s, g, write := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { s.Watch(ctx, 5*time.Millisecond) })
	defer watching.Wait()
	defer cancel()
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); g.times() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("loaded %d times, want %d", g.times(), n)
			}
		}
	}
	write("t.toml", "[limits]\nconnections = 5")
	await(2)
	write("t.toml", "nonsense")
	time.Sleep(50 * time.Millisecond)
	write("t.toml", "[limits]\nconnections = 7")
	await(3)
	if got := g.got[2].MaxConns; got != 7 {
		t.Errorf("loaded with %d connections", got)
	}
}
