package transports

import (
	"os"
	"strings"
	"testing"

	"waterproxy/internal/catalog"
	"waterproxy/internal/release"
	"waterproxy/internal/repository"
	"waterproxy/internal/repotest"
	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

// variant is a module that does the same and has another SHA-256: a custom section more.
func variant(t *testing.T, module, mark string) []byte {
	t.Helper()
	name := "test"
	section := append([]byte{0, byte(1 + len(name) + len(mark)), byte(len(name))}, name+mark...)
	return append(testmodules.Load(t, module), section...)
}

func fromRepository(t *testing.T) (*repotest.Repository, *repository.Store, *Set) {
	t.Helper()
	state := t.TempDir()
	store := repository.New(state)
	return repotest.New(t), store, newSet(t, &catalog.Catalog{StateDir: state, Repository: store})
}

func update(t *testing.T, r *repotest.Repository, s *repository.Store, retry bool) {
	t.Helper()
	if _, err := r.Update(s, retry); err != nil {
		t.Fatal(err)
	}
}

// here describes what a store has of t: the current version, the next one, and the one
// that was refused.
func here(t *testing.T, s *repository.Store) string {
	t.Helper()
	index, err := s.Index()
	if err != nil {
		t.Fatal(err)
	}
	m := index.Modules["t"]
	text := []string{"-", "-", "-"}
	for i, v := range []*repository.Version{m.Current, m.Next} {
		if v != nil {
			text[i] = v.Version
		}
	}
	if m.Refused != nil {
		text[2] = m.Refused.Version
	}
	return strings.Join(text, " ")
}

// TestNewVersions: a version of a repository is tried by its reload, and becomes the
// current one if it works; one that does not is refused, and what ran goes on.
func TestNewVersions(t *testing.T) {
	r, store, s := fromRepository(t)
	r.Publish(release.Release{Transport: "t", Version: "1"}, variant(t, "plain_v1", "1"))
	update(t, r, store, false)
	if got := here(t, store); got != "- 1 -" {
		t.Fatalf("before the trial: %s", got)
	}
	var c checks
	_, address := listen(t)
	d := dialer(t, s, Options{Name: "t", Check: c.check})
	if got := here(t, store); got != "1 - -" {
		t.Fatalf("after the first start: %s", got)
	}
	for _, step := range []struct {
		what, version string
		wasm          []byte
		needs         release.Needs
		want          string
	}{
		{"a good one", "2", variant(t, "plain_v1", "2"), release.Needs{}, "2 - -"},
		{"one that does not start", "3", testmodules.Load(t, "probe_test_type_v1"), release.Needs{}, "2 - 3"},
		{"one that fails its test of itself", "4", testmodules.Load(t, "probe_test_bad_v1"), release.Needs{}, "2 - 4"},
		{"one that is no module", "5", []byte("nothing"), release.Needs{}, "2 - 5"},
		{"one that needs an address", "6", variant(t, "plain_v1", "6"), release.Needs{Allow: []string{"tcp/192.0.2.1:443"}}, "2 - 6"},
		{"one that needs state", "7", variant(t, "plain_v1", "7"), release.Needs{State: true}, "2 - 7"},
		{"one that needs memory", "8", variant(t, "plain_v1", "8"), release.Needs{Memory: 8 << 30}, "2 - 8"},
		{"one that needs threads", "9", variant(t, "plain_v1", "9"), release.Needs{Threads: 1000}, "2 - 9"},
		{"a good one again", "10", variant(t, "plain_v1", "10"), release.Needs{}, "10 - -"},
	} {
		r.Publish(release.Release{Transport: "t", Version: step.version, Needs: step.needs}, step.wasm)
		update(t, r, store, false)
		used := c.times()
		s.LoadNew(t.Context())
		if got := here(t, store); got != step.want {
			t.Fatalf("%s: %s, want %s", step.what, got, step.want)
		}
		if isGood := strings.HasPrefix(step.want, step.version); (c.times() > used) != isGood {
			t.Errorf("%s: it was used: %v", step.what, !isGood)
		}
		if err := dial(t, d, address); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}

// TestRefusedAtStart: if the next version does not work at a start, the one before it is
// used, and the next one is tried again only when that is asked for.
func TestRefusedAtStart(t *testing.T) {
	r, store, s := fromRepository(t)
	r.Publish(release.Release{Transport: "t", Version: "1"}, variant(t, "plain_v1", "1"))
	update(t, r, store, false)
	dialer(t, s, Options{Name: "t"})
	r.Publish(release.Release{Transport: "t", Version: "2"}, testmodules.Load(t, "probe_test_bad_v1"))
	update(t, r, store, false)
	again := New(s.catalog, s.log, s.meter)
	_, address := listen(t)
	d := dialer(t, again, Options{Name: "t"})
	if err := dial(t, d, address); err != nil {
		t.Error(err)
	}
	if got := here(t, store); got != "1 - 2" {
		t.Errorf("after the start: %s", got)
	}
	update(t, r, store, false)
	if got := here(t, store); got != "1 - 2" {
		t.Errorf("after a look: %s", got)
	}
	update(t, r, store, true)
	if got := here(t, store); got != "1 2 2" {
		t.Errorf("after a look that tries again: %s", got)
	}
}

// TestArgumentsRefuseNoVersion: a bridge line that a module refuses says nothing of the
// module.
func TestArgumentsRefuseNoVersion(t *testing.T) {
	r, store, s := fromRepository(t)
	r.Publish(release.Release{Transport: "t", Version: "1"}, variant(t, "plain_v1", "1"))
	update(t, r, store, false)
	c := checks{fail: &transport.ArgsError{Reason: "no key"}}
	if d, err := s.NewDialer(t.Context(), Options{Name: "t", Check: c.check}); err == nil {
		d.Close()
		t.Error("it has started")
	}
	if got := here(t, store); got != "- 1 -" {
		t.Errorf("after a bad bridge line: %s", got)
	}
}

// TestRollback: a kept version takes the place of the current one in a running process, and
// stays until it is unpinned.
func TestRollback(t *testing.T) {
	r, store, s := fromRepository(t)
	r.Publish(release.Release{Transport: "t", Version: "1"}, variant(t, "plain_v1", "1"))
	update(t, r, store, false)
	var c checks
	dialer(t, s, Options{Name: "t", Check: c.check})
	publish := func(version string) {
		r.Publish(release.Release{Transport: "t", Version: version}, variant(t, "plain_v1", version))
		update(t, r, store, false)
		s.LoadNew(t.Context())
	}
	publish("2")
	if _, err := store.Rollback(t.Context(), "t", "7"); err == nil {
		t.Error("a version that is not kept is gone back to")
	}
	if to, err := store.Rollback(t.Context(), "t", ""); err != nil || to.Version != "1" {
		t.Fatal(to.Version, err)
	}
	s.Reload(t.Context())
	if sum := c.got[len(c.got)-1].Module.SHA256(); c.times() != 3 || sum != c.got[0].Module.SHA256() {
		t.Errorf("%d configurations were used, the last with another module than the first", c.times())
	}
	publish("3")
	if got := here(t, store); got != "1 - -" {
		t.Errorf("it is pinned, and now: %s", got)
	}
	if err := store.Unpin(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	update(t, r, store, false)
	s.LoadNew(t.Context())
	if got := here(t, store); got != "3 - -" {
		t.Errorf("it is not pinned any more, and now: %s", got)
	}
}

// TestTamperedModule: a file that changes after it was verified is not loaded, and what
// runs goes on; the next look brings it back.
func TestTamperedModule(t *testing.T) {
	r, store, s := fromRepository(t)
	r.Publish(release.Release{Transport: "t", Version: "1"}, variant(t, "plain_v1", "1"))
	update(t, r, store, false)
	_, address := listen(t)
	d := dialer(t, s, Options{Name: "t"})
	index, err := store.Index()
	if err != nil {
		t.Fatal(err)
	}
	file := store.ModuleFile(index.Best("t"))
	if err := os.WriteFile(file, variant(t, "plain_v1", "other"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Reload(t.Context())
	if err := dial(t, d, address); err != nil {
		t.Error(err)
	}
	again := New(s.catalog, s.log, s.meter)
	if d, err := again.NewDialer(t.Context(), Options{Name: "t"}); err == nil {
		d.Close()
		t.Error("a module that was not signed has started")
	} else if !strings.Contains(err.Error(), "is not the module") {
		t.Error(err)
	}
	update(t, r, store, false)
	dialer(t, again, Options{Name: "t"})

	r.Publish(release.Release{Transport: "t", Version: "2"}, variant(t, "plain_v1", "2"))
	update(t, r, store, false)
	if index, err = store.Index(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.ModuleFile(index.Best("t")), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.LoadNew(t.Context())
	if got := here(t, store); got != "1 - 2" {
		t.Errorf("a damaged file that was not tried yet: %s", got)
	}
	update(t, r, store, false)
	s.LoadNew(t.Context())
	if got := here(t, store); got != "2 - -" {
		t.Errorf("after it was fetched again: %s", got)
	}
}
