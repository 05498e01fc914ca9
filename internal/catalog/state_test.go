//go:build unix

package catalog

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// stateful returns a Catalog with the transport t, and its log.
func stateful(t *testing.T, state string) (*Catalog, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	c := &Catalog{StateDir: state, StateFlag: "-flag DIR", Log: slog.New(slog.NewTextHandler(log, nil))}
	if err := c.AddModule("t=" + testmodules.Path("plain_v1")); err != nil {
		t.Fatal(err)
	}
	c.MakeState()
	return c, log
}

// TestCacheInPlaceOfDirectory: what is no directory and has the name of one is replaced.
func TestCacheInPlaceOfDirectory(t *testing.T) {
	state := t.TempDir()
	for _, name := range []string{"compiled", "started"} {
		if err := os.WriteFile(filepath.Join(state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, log := stateful(t, state)
	cfg, err := c.Load("t")
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Module.Close()
	if dir := c.CacheDir(); dir != state {
		t.Errorf("the directory of the cache is %q", dir)
	}
	if code, err := os.ReadDir(filepath.Join(state, "compiled")); err != nil || len(code) == 0 {
		t.Errorf("%v, %v are kept", code, err)
	}
	if said := log.String(); strings.Count(said, "level=WARN") != 2 {
		t.Errorf("it logged %q", said)
	}
}

// TestExplain: an error of a transport that keeps state names a directory that cannot be
// used, and that of another does not.
func TestExplain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failure")
	for _, test := range []struct {
		state string
		keeps bool
		want  string
	}{
		{file, false, "failure"},
		{t.TempDir(), true, "failure"},
		{file, true, "failure; the state directory " + file + " cannot be used: mkdir " + file + ": not a directory; make it usable, or name another by -flag DIR"},
		{"", true, "failure; there is no state directory; name one by -flag DIR"},
	} {
		c, _ := stateful(t, test.state)
		if test.keeps {
			c.KeepState("t")
		}
		source, err := c.Read("t")
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Explain(failure); err.Error() != test.want || !errors.Is(err, failure) {
			t.Errorf("%q: %v, want %s", test.state, err, test.want)
		}
	}
}
