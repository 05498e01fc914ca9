package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/release"
	"waterproxy/internal/repository"
	"waterproxy/internal/repotest"
	"waterproxy/transport/testmodules"
)

// TestPrecedence: a file that the user names comes before one of the directory, this before
// the repository, and this before what is built in.
func TestPrecedence(t *testing.T) {
	r := repotest.New(t)
	wasm := testmodules.Load(t, "plain_v1")
	for _, name := range []string{"plain", "named", "dir", "own"} {
		r.Publish(release.Release{Transport: name, Version: "1"}, wasm)
	}
	dir, state := t.TempDir(), t.TempDir()
	store := repository.New(state)
	if _, err := r.Update(store, false); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "dir.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Catalog{Dir: dir, StateDir: state, Repository: store}
	if err := c.AddModule("named=" + testmodules.Path("plain_v1")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"named": testmodules.Path("plain_v1"), "dir": file, "own": "repository", "plain": "repository", "obfs4": ""} {
		got := c.file(name)
		if want == "repository" {
			if v := c.FromRepository(name); v == nil || got != store.ModuleFile(v) {
				t.Errorf("%s is %s, and not of the repository", name, got)
			}
			continue
		}
		if got != want || c.FromRepository(name) != nil {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	names, err := c.Names()
	if err != nil || !slices.Contains(names, "own") || !slices.IsSorted(names) || c.BuiltIn("plain") || !c.BuiltIn("obfs4") {
		t.Errorf("%q, %v", names, err)
	}
	sum, err := c.Sum("own")
	if index, _ := store.Index(); err != nil || fmt.Sprintf("%x", sum) != index.Best("own").SHA256 {
		t.Errorf("%x, %v", sum, err)
	}
}

// TestNeeds: a module of a repository gets what its operator grants, and no more; what it
// needs besides is an error that says how to grant it.
func TestNeeds(t *testing.T) {
	wasm := testmodules.Load(t, "plain_v1")
	for _, test := range []struct {
		needs  release.Needs
		grant  func(*Catalog) error
		remedy string
	}{
		{release.Needs{Allow: []string{"tcp/192.0.2.1:443"}}, func(c *Catalog) error { return c.AddAllow("t=192.0.2.0/24:400-500") }, "-module-allow t=tcp/192.0.2.1:443"},
		{release.Needs{State: true}, func(c *Catalog) error { return c.AddState("t") }, "-module-state t"},
		{release.Needs{Memory: 512 << 20}, nil, "limits.memory"},
		{release.Needs{Threads: 17}, nil, "limits.threads"},
	} {
		r := repotest.New(t)
		r.Publish(release.Release{Transport: "t", Version: "1", Needs: test.needs}, wasm)
		state := t.TempDir()
		store := repository.New(state)
		if _, err := r.Update(store, false); err != nil {
			t.Fatal(err)
		}
		c := &Catalog{StateDir: state, Repository: store}
		c.MakeState()
		cfg, err := c.Load("t")
		if _, ok := errors.AsType[*NeedsError](err); !ok || !strings.Contains(err.Error(), test.remedy) {
			t.Errorf("%+v: %v, want %s", test.needs, err, test.remedy)
		}
		if cfg.StateDir != "" || len(cfg.Allow) > 0 {
			t.Errorf("%+v: the repository has granted something", test.needs)
		}
		if test.grant == nil {
			dir := t.TempDir()
			settings := "[limits]\nmemory = '512MiB'\nthreads = 17\n"
			if err := os.WriteFile(filepath.Join(dir, "t.toml"), []byte(settings), 0o600); err != nil {
				t.Fatal(err)
			}
			c = &Catalog{Dir: dir, StateDir: state, Repository: store}
		} else if err := test.grant(c); err != nil {
			t.Fatal(err)
		}
		if cfg, err = c.Load("t"); err != nil {
			t.Errorf("%+v, granted: %v", test.needs, err)
			continue
		}
		if err := cfg.Module.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOtherABI: a module that is not what its repository says is refused.
func TestOtherABI(t *testing.T) {
	r := repotest.New(t)
	r.Publish(release.Release{Transport: "t", Version: "1", ABI: "v0"}, testmodules.Load(t, "plain_v1"))
	state := t.TempDir()
	store := repository.New(state)
	if _, err := r.Update(store, false); err != nil {
		t.Fatal(err)
	}
	c := &Catalog{StateDir: state, Repository: store}
	if _, err := c.Load("t"); err == nil || !strings.Contains(err.Error(), "its ABI is v1") {
		t.Error(err)
	}
}
