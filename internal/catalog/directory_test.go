package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

// directory returns a Catalog's directory with files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDirectory(t *testing.T) {
	wasm := string(testmodules.Load(t, "plain_v1"))
	dir := directory(t, map[string]string{
		"mine.wasm":  wasm,
		"mine.toml":  "config = 'mine.cfg'\nallow = ['a.example:1']\nstate = true\ninstances = 3\n[limits]\nmemory = '1MiB'\nsetup-timeout = '5s'",
		"mine.cfg":   "key",
		"bare.wasm":  wasm,
		"notes.txt":  "ignored",
		"plain.toml": "[limits]\nconnections = 7",
	})
	c := Catalog{Dir: dir, StateDir: t.TempDir()}
	if errs := c.CheckDir(); len(errs) > 0 {
		t.Fatal(errs)
	}
	names, err := c.InDir()
	if want := []string{"bare", "mine", "plain"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("names %q, %v; want %q", names, err, want)
	}
	load := func(name string) transport.Config {
		t.Helper()
		cfg, err := c.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cfg.Module.Close() })
		return cfg
	}
	cfg := load("mine")
	if string(cfg.ModuleConfig) != "key" || cfg.Instances != 3 || cfg.MaxMemory != 1<<20 || cfg.SetupTimeout != 5*time.Second ||
		cfg.StateDir != filepath.Join(c.StateDir, "modules", "mine") || len(cfg.Allow) != 1 {
		t.Errorf("mine: %+v", cfg)
	}
	if cfg := load("bare"); cfg.StateDir != "" || cfg.Instances != 0 {
		t.Errorf("bare: %+v", cfg)
	}
	if cfg := load("plain"); cfg.MaxConns != 7 || cfg.Module.Size() == len(wasm) {
		t.Errorf("settings for a built-in module: %+v", cfg)
	}

	// Flags come before the file, and addresses are added.
	other := filepath.Join(directory(t, map[string]string{"x": "other"}), "x")
	for _, err := range []error{
		c.AddConfig("mine=" + other), c.AddInstances("mine=each"), c.AddAllow("mine=b.example:2"),
		c.AddModule("bare=" + testmodules.Path("posix_v1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if cfg := load("mine"); string(cfg.ModuleConfig) != "other" || cfg.Instances != transport.InstancePerConn || len(cfg.Allow) != 2 {
		t.Errorf("mine with flags: %+v", cfg)
	}
	if cfg := load("bare"); cfg.Module.Size() == len(wasm) {
		t.Error("the directory's module is before that of a flag")
	}
}

// What is wrong with names in the directory is told, and costs nobody anything.
func TestCheckDir(t *testing.T) {
	wasm := string(testmodules.Load(t, "plain_v1"))
	for name, test := range map[string]struct {
		files map[string]string
		want  string // of the only error
	}{
		"bad name":        {map[string]string{"my-module.wasm": wasm}, "my-module.wasm is not offered: \"my-module\" is no transport name"},
		"no name":         {map[string]string{"..wasm": wasm}, ""},
		"no such module":  {map[string]string{"other.toml": ""}, "other.toml is not used: there is no transport other"},
		"bad as settings": {map[string]string{"my-module.toml": ""}, "my-module.toml is not used: there is no"},
		"hidden files": {map[string]string{
			".m.toml": "x", "._m.wasm": "x", ".#m.toml": "x", ".m.wasm.swp": "x", "#m.toml#": "x", "#m.toml": "x", "~$m.toml": "x", "m.toml~": "x", "m.wasm.part": "x", ".wasm": "x",
		}, ""},
	} {
		test.files["good.wasm"] = wasm
		c := Catalog{Dir: directory(t, test.files)}
		// An editor's lock is a symbolic link to nothing.
		if err := os.Symlink("user@host.1:2", filepath.Join(c.Dir, ".#lock.wasm")); err != nil {
			t.Fatal(err)
		}
		errs := c.CheckDir()
		if test.want == "" {
			if len(errs) > 0 {
				t.Errorf("%s: %v", name, errs)
			}
		} else if len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, errs, test.want)
		}
		if names, err := c.InDir(); err != nil || !slices.Equal(names, []string{"good"}) {
			t.Errorf("%s: the transports are %q, %v", name, names, err)
		}
	}
}

// A directory that cannot be reached any more does not make a transport another one.
func TestReadAgain(t *testing.T) {
	dir := directory(t, map[string]string{"plain.toml": "instances = 2"})
	c := Catalog{Dir: dir}
	read := func(name string) *Source {
		t.Helper()
		s, err := c.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain, mux := read("plain"), read("mux")
	digest := func(s *Source) [32]byte {
		t.Helper()
		d, err := s.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if again, err := plain.ReadAgain(); err != nil || digest(again) != digest(plain) {
		t.Errorf("with nothing changed: %v", err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir + ".away")
	if _, err := plain.ReadAgain(); !os.IsNotExist(errors.Unwrap(err)) {
		t.Errorf("without the directory that its settings are from: %v", err)
	}
	if _, err := mux.ReadAgain(); err != nil {
		t.Errorf("without a directory that has nothing of it: %v", err)
	}
}

// The digest changes with each file of a transport, and with no other.
func TestDigest(t *testing.T) {
	dir := directory(t, map[string]string{"a.wasm": "1", "a.toml": "config = 'a.cfg'", "a.cfg": "2"})
	c := Catalog{Dir: dir}
	seen := map[[32]byte]bool{}
	add := func(file, content string, isNew bool) {
		t.Helper()
		path := filepath.Join(dir, file)
		err := os.WriteFile(path, []byte(content), 0o600)
		if content == "" {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		source, err := c.Read("a")
		if err != nil {
			t.Fatal(err)
		}
		digest, err := source.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if seen[digest] == isNew {
			t.Errorf("%s = %q: new is %v", file, content, !isNew)
		}
		seen[digest] = true
	}
	add("a.wasm", "1", true)
	add("a.wasm", "1", false)
	add("a.wasm", "2", true)
	add("b.wasm", "2", false)
	add("a.cfg", "3", true)
	add("a.toml", "state = true", true)
	add("a.toml", "", true)
}
