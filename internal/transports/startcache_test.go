//go:build unix

package transports

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/transport"
)

// place is where a transport m has its files.
type place struct {
	t          *testing.T
	dir, state string
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{t, t.TempDir(), filepath.Join(t.TempDir(), "state")}
	if err := os.Mkdir(p.state, 0o700); err != nil {
		t.Fatal(err)
	}
	p.write("m.wasm", "1")
	return p
}

func (p place) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) keepState() {
	p.t.Helper()
	dir := filepath.Join(p.state, "modules", "m")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "key"), nil, 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// starts is a start cache with what it is used for.
type starts struct {
	*startCache
	c    *catalog.Catalog
	o    Options
	role transport.Role
}

// open returns the cache in a process that begins now, and its log.
func (p place) open(role transport.Role, c *catalog.Catalog) (*starts, *bytes.Buffer) {
	p.t.Helper()
	log := new(bytes.Buffer)
	c.StateDir, c.Log = p.state, slog.New(slog.NewTextHandler(log, nil))
	c.MakeState()
	return &starts{newStartCache(c.CacheDir(), c.Log), c, Options{Name: "m"}, role}, log
}

func (s *starts) put(t *testing.T, published transport.Published) {
	t.Helper()
	source, err := s.c.Read("m")
	if err != nil {
		t.Fatal(err)
	}
	s.startCache.put(s.o, s.role, source, published)
}

// get is that of the cache; a transport that cannot be read has not started.
func (s *starts) get() (transport.Published, bool) {
	source, err := s.c.Read("m")
	if err != nil {
		return transport.Published{}, false
	}
	return s.startCache.get(s.o, s.role, source)
}

// A start is good for the transport as it was, and for nothing else.
func TestStartCache(t *testing.T) {
	p := newPlace(t)
	file, config := filepath.Join(p.dir, "m.wasm"), filepath.Join(p.dir, "m.cfg")
	published := transport.Published{Args: transport.Args{"key": {"abc"}}, Address: netip.MustParseAddrPort("[2001:db8::1]:443")}
	var s *starts
	for name, change := range map[string]func(){
		"module":        func() { p.write("m.wasm", "22") },
		"touched":       func() { os.Chtimes(file, time.Time{}, time.Unix(1, 0)) },
		"configuration": func() { p.write("m.cfg", "22") },
		"arguments":     func() { s.o.Args = transport.Args{"mode": {"2"}} },
		"addresses":     func() { s.c.AddAllow("m=192.0.2.1:80") },
		"instances":     func() { s.c.AddInstances("m=each") },
		"state":         p.keepState,
		"broken file":   func() { os.WriteFile(filepath.Join(p.state, "started", "m-server.json"), []byte("x"), 0o600) },
		"no module":     func() { os.Remove(file) },
	} {
		if err := os.RemoveAll(filepath.Join(p.state, "modules")); err != nil {
			t.Fatal(err)
		}
		p.write("m.wasm", "1")
		p.write("m.cfg", "1")
		s, _ = p.open(transport.RoleServer, &catalog.Catalog{})
		s.o.Args = transport.Args{"mode": {"1"}}
		for _, err := range []error{s.c.AddModule("m=" + file), s.c.AddConfig("m=" + config), s.c.AddState("m")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		s.put(t, published)
		if got, ok := s.get(); !ok || !reflect.DeepEqual(got, published) {
			t.Fatalf("it has started with %v, %v", got, ok)
		}
		s.role = transport.RoleClient
		if _, ok := s.get(); ok {
			t.Error("it has started as a client")
		}
		s.role = transport.RoleServer
		change()
		if got, ok := s.get(); ok {
			t.Errorf("%s: it has started with %v", name, got)
		}
	}
}

// So is one of a directory, where settings may come and go.
func TestStartCacheInDir(t *testing.T) {
	for name, change := range map[string]func(place){
		"module":        func(p place) { p.write("m.wasm", "22") },
		"settings":      func(p place) { p.write("m.toml", "config = \"m.cfg\"\nstate = true\ninstances = 2") },
		"no settings":   func(p place) { os.Remove(filepath.Join(p.dir, "m.toml")) },
		"broken":        func(p place) { p.write("m.toml", "nonsense") },
		"configuration": func(p place) { p.write("m.cfg", "22") },
		"state":         place.keepState,
	} {
		p := newPlace(t)
		p.write("m.cfg", "1")
		p.write("m.toml", "config = \"m.cfg\"\nstate = true")
		s, _ := p.open(transport.RoleClient, &catalog.Catalog{Dir: p.dir})
		s.put(t, transport.Published{})
		if _, ok := s.get(); !ok {
			t.Fatal("it is not remembered")
		}
		change(p)
		if _, ok := s.get(); ok {
			t.Errorf("%s: it has started", name)
		}
	}
}

// A start is one of the files as they were read, though they change before it is over.
func TestStartCacheChangedMeanwhile(t *testing.T) {
	p := newPlace(t)
	s, _ := p.open(transport.RoleClient, &catalog.Catalog{Dir: p.dir})
	source, err := s.c.Read("m")
	if err != nil {
		t.Fatal(err)
	}
	p.write("m.wasm", "22")
	s.startCache.put(s.o, s.role, source, transport.Published{})
	if _, ok := s.get(); ok {
		t.Error("a module that has not been loaded has started")
	}
}

// What a module without state publishes is believed when it does so again.
func TestStartCacheWithoutState(t *testing.T) {
	p := newPlace(t)
	s, _ := p.open(transport.RoleServer, &catalog.Catalog{Dir: p.dir})
	for i, step := range []struct {
		key  string
		want bool
	}{{"a", false}, {"b", false}, {"b", true}, {"c", false}} {
		s.put(t, transport.Published{Args: transport.Args{"key": {step.key}}})
		if _, ok := s.get(); ok != step.want {
			t.Errorf("step %d: %v, want %v", i, ok, step.want)
		}
	}
	s.role = transport.RoleClient
	s.put(t, transport.Published{})
	if _, ok := s.get(); !ok {
		t.Error("a client that started is not remembered")
	}
}

// Without a state directory everything is forgotten.
func TestNoStartCache(t *testing.T) {
	p := newPlace(t)
	p.state = ""
	s, _ := p.open(transport.RoleClient, &catalog.Catalog{Dir: p.dir})
	s.put(t, transport.Published{})
	if _, ok := s.get(); ok {
		t.Error("something is remembered")
	}
}

// A file that is not what was written is removed, with one warning, and its transport
// loaded.
func TestDamagedStartCache(t *testing.T) {
	p := newPlace(t)
	s, _ := p.open(transport.RoleServer, &catalog.Catalog{Dir: p.dir})
	put := func() { // twice, since the module has no state
		s.put(t, transport.Published{Args: transport.Args{"key": {"abcdef"}}})
		s.put(t, transport.Published{Args: transport.Args{"key": {"abcdef"}}})
	}
	put()
	file := filepath.Join(p.state, "started", "m-server.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func() error{
		"a directory": func() error { return os.MkdirAll(filepath.Join(file, "deep"), 0o700) },
		"a FIFO":      func() error { return syscall.Mkfifo(file, 0o600) },
		"a link":      func() error { return os.Symlink("elsewhere", file) },
		"too long":    func() error { return os.WriteFile(file, make([]byte, maxStarted+1), 0o600) },
		"others can write": func() error {
			return errors.Join(os.WriteFile(file, good, 0o600), os.Chmod(file, 0o666))
		},
	}
	for name, content := range map[string]string{
		"empty":     "",
		"truncated": string(good[:len(good)/2]),
		"other key": strings.Replace(string(good), "abcdef", "abcdeg", 1),
		"no sum":    string(good[bytes.IndexByte(good, '\n')+1:]),
		"sum alone": hexSum(nil) + "\n",
		"no record": hexSum([]byte("[]")) + "\n[]",
	} {
		damages[name] = func() error { return os.WriteFile(file, []byte(content), 0o600) }
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(file), damage()); err != nil {
				t.Fatal(err)
			}
			again, log := p.open(transport.RoleServer, &catalog.Catalog{Dir: p.dir})
			for range 2 {
				if got, ok := again.get(); ok {
					t.Errorf("it has started with %v", got)
				}
			}
			if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, file) || !strings.Contains(text, "transport=m") {
				t.Errorf("it logged %q", text)
			}
			put()
			if got, ok := again.get(); !ok {
				t.Errorf("it was not mended: %v, %v", got, ok)
			}
		})
	}
}

// Whoever can write a file of the cache could choose what a bridge publishes.
func TestStartCacheNotPrivate(t *testing.T) {
	p := newPlace(t)
	s, _ := p.open(transport.RoleClient, &catalog.Catalog{Dir: p.dir})
	s.put(t, transport.Published{})
	if _, ok := s.get(); !ok {
		t.Fatal("it has not started")
	}
	for _, test := range []struct{ dir, want string }{{p.state, "nothing is cached"}, {filepath.Join(p.state, "started"), "made anew"}} {
		if err := os.Chmod(test.dir, 0o770); err != nil {
			t.Fatal(err)
		}
		again, log := p.open(transport.RoleClient, &catalog.Catalog{Dir: p.dir})
		if _, ok := again.get(); ok {
			t.Errorf("%s: the cache was believed", test.dir)
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "can be written by other users") || !strings.Contains(text, test.want) {
			t.Errorf("%s: it logged %q", test.dir, text)
		}
		if err := os.Chmod(p.state, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
