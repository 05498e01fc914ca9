package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
		for kind, err := range map[string]error{
			"module":    new(Catalog).AddModule(name + "=/x"),
			"config":    new(Catalog).AddConfig(name + "=/x"),
			"instances": new(Catalog).AddInstances(name + "=1"),
			"state":     new(Catalog).AddState(name),
		} {
			if (err == nil) != ok {
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
	for _, test := range []struct {
		add      func(string) error
		a, b, a2 string
	}{
		{c.AddModule, "a=/x", "b=/x", "a=/y"},
		{c.AddConfig, "a=/x", "b=/x", "a=/y"},
		{c.AddInstances, "a=1", "b=1", "a=each"},
		{c.AddState, "a", "b", "a"},
	} {
		for _, arg := range []string{test.a, test.b} {
			if err := test.add(arg); err != nil {
				t.Error(err)
			}
		}
		if err := test.add(test.a2); err == nil {
			t.Errorf("%s replaced %s", test.a2, test.a)
		}
	}
}

func TestInstances(t *testing.T) {
	for text, want := range map[string]int{"1": 1, "3": 3, "each": transport.InstancePerConn} {
		var c Catalog
		if err := errors.Join(c.AddModule("t="+testmodules.Path("plain_v1")), c.AddInstances("t="+text)); err != nil {
			t.Fatal(err)
		}
		cfg, err := c.Load("t")
		if err != nil {
			t.Fatal(err)
		}
		defer cfg.Module.Close()
		if cfg.Instances != want {
			t.Errorf("%s: %d instances, want %d", text, cfg.Instances, want)
		}
	}
	for _, text := range []string{"0", "-1", "x", "1.5", "Each", "9999999999999999999", ""} {
		if err := new(Catalog).AddInstances("t=" + text); err == nil {
			t.Errorf("%q was taken for a number of instances", text)
		}
	}
}

// Only the module that is to keep state gets a directory, which only its user can
// look into, and finds it again.
func TestState(t *testing.T) {
	c := Catalog{StateDir: filepath.Join(t.TempDir(), "state")}
	for _, name := range []string{"with", "without"} {
		if err := c.AddModule(name + "=" + testmodules.Path("plain_v1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.AddState("with"); err != nil {
		t.Fatal(err)
	}
	load := func(name string) string {
		t.Helper()
		cfg, err := c.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		defer cfg.Module.Close()
		return cfg.StateDir
	}
	dir := load("with")
	if want := filepath.Join(c.StateDir, "modules", "with"); dir != want {
		t.Errorf("the directory is %q, want %q", dir, want)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory has mode %v, want drwx------", info.Mode())
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := load("with"); again != dir {
		t.Errorf("the second time it is %q", again)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if other := load("without"); other != "" {
		t.Errorf("a module that is to keep no state has %q", other)
	}

	c.StateDir = ""
	if _, err := c.Load("with"); err == nil || !strings.Contains(err.Error(), "TOR_PT_STATE_LOCATION") {
		t.Errorf("without a place for it: %v", err)
	}
	c.StateDir = file // where no directory can be made
	if _, err := c.Load("with"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
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
		add func(c *Catalog) error
		ok  bool
	}{
		"nothing":                     {func(*Catalog) error { return nil }, true},
		"configuration of a file":     {func(c *Catalog) error { return c.AddConfig("a=/y") }, true},
		"configuration of a built-in": {func(c *Catalog) error { return c.AddConfig(builtIn + "=/y") }, true},
		"configuration of nothing":    {func(c *Catalog) error { return c.AddConfig("b=/y") }, false},
		"addresses for a file":        {func(c *Catalog) error { return c.AddAllow("a=*:443") }, true},
		"addresses for nothing":       {func(c *Catalog) error { return c.AddAllow("b=*:443") }, false},
		"instances of a built-in":     {func(c *Catalog) error { return c.AddInstances(builtIn + "=1") }, true},
		"instances of nothing":        {func(c *Catalog) error { return c.AddInstances("b=1") }, false},
		"state of a file":             {func(c *Catalog) error { return c.AddState("a") }, true},
		"state of nothing":            {func(c *Catalog) error { return c.AddState("b") }, false},
	} {
		var c Catalog
		if err := errors.Join(c.AddModule("a=/nowhere"), test.add(&c)); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(c.CheckFlags()...)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), " b,") {
			t.Errorf("%s: the error does not name the transport: %v", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Catalog{StateDir: dir}
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
