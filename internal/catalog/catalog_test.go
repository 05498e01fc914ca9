package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"waterproxy/modules"
	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"plain": true, "_": true, "a1": true, "A_b": true,
		"": false, "1a": false, "a-b": false, "a.b": false, "a b": false, "é": false, "*": false, "a,b": false, "a\n": false,
	} {
		for kind, add := range map[string]func(*Catalog, string) error{"module": (*Catalog).AddModule, "config": (*Catalog).AddConfig} {
			if err := add(new(Catalog), name+"=/x"); (err == nil) != ok {
				t.Errorf("%s %q: %v", kind, name, err)
			}
		}
	}
	for _, arg := range []string{"", "a", "a=", "=", "=/x"} {
		if err := new(Catalog).AddModule(arg); err == nil {
			t.Errorf("%q: no error", arg)
		}
	}
}

func TestTwice(t *testing.T) {
	var c Catalog
	for _, add := range []func(string) error{c.AddModule, c.AddConfig} {
		if err := add("a=/x"); err != nil {
			t.Error(err)
		}
		if err := add("b=/x"); err != nil {
			t.Error(err)
		}
		if err := add("a=/y"); err == nil {
			t.Error("a second setting for a replaced the first")
		}
	}
}

// A file's name may have an equals sign.
func TestEqualsSign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k=v.wasm")
	if err := os.WriteFile(file, testmodules.Load(t, "plain_v1"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c Catalog
	if err := c.AddModule("t=" + file); err != nil {
		t.Fatal(err)
	}
	cfg, err := c.Load("t")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Module.Close()
}

func TestCheck(t *testing.T) {
	builtIn := modules.Names()[0]
	for name, test := range map[string]struct {
		modules, configs []string
		ok               bool
	}{
		"nothing":                      {ok: true},
		"configuration of a file":      {[]string{"a=/x"}, []string{"a=/y"}, true},
		"configuration of a built-in":  {nil, []string{builtIn + "=/y"}, true},
		"configuration of nothing":     {nil, []string{"a=/y"}, false},
		"configuration of another":     {[]string{"a=/x"}, []string{"b=/y"}, false},
		"files that are not looked at": {[]string{"a=/nowhere"}, nil, true},
	} {
		var c Catalog
		for _, arg := range test.modules {
			if err := c.AddModule(arg); err != nil {
				t.Fatal(err)
			}
		}
		for _, arg := range test.configs {
			if err := c.AddConfig(arg); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Check(); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Catalog{CacheDir: CacheIn(dir)}
	for _, arg := range []string{"good=" + testmodules.Path("plain_v1"), "bad=" + testmodules.Path("bad_text"), "missing=" + dir + "/x", "plain=" + testmodules.Path("plain_v0"), "unconfigured=" + testmodules.Path("plain_v1")} {
		if err := c.AddModule(arg); err != nil {
			t.Fatal(err)
		}
	}
	for _, arg := range []string{"good=" + config, "unconfigured=" + dir + "/x"} {
		if err := c.AddConfig(arg); err != nil {
			t.Fatal(err)
		}
	}

	cfg, err := c.Load("good")
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Module.Close()
	if !bytes.Equal(cfg.ModuleConfig, []byte("key")) {
		t.Errorf("the configuration is %q", cfg.ModuleConfig)
	}
	if _, err := os.Stat(filepath.Join(dir, "compiled")); err != nil {
		t.Errorf("the cache: %v", err)
	}
	for name, want := range map[string]error{
		"unknown": ErrUnknown, "bad": transport.ErrModule, "missing": fs.ErrNotExist, "unconfigured": fs.ErrNotExist,
	} {
		if _, err := c.Load(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if _, err := c.Load(name); name != "unknown" && errors.Is(err, ErrUnknown) {
			t.Errorf("%s counts as unknown, so tor would not hear of it", name)
		}
	}

	// The user's file comes before the built-in one.
	own := testmodules.Load(t, "plain_v0")
	if sum, err := c.Sum("plain"); err != nil || sum != sha256.Sum256(own) {
		t.Errorf("plain is %x, %v; want the given file", sum, err)
	}
	builtIn, err := modules.Load("plain")
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := new(Catalog).Sum("plain"); err != nil || sum != sha256.Sum256(builtIn) {
		t.Errorf("plain is %x, %v; want the built-in module", sum, err)
	}
	if _, err := c.Sum("unknown"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
}
