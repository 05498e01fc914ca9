//go:build unix

package catalog

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"waterproxy/transport"
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

// TestDamagedRecord: a record that is not what was written is removed, with one warning,
// and its transport loaded.
func TestDamagedRecord(t *testing.T) {
	state := t.TempDir()
	c, _ := stateful(t, state)
	published := transport.Args{"key": {"abcdef"}}
	remember := func() { // twice, since the module has no state
		c.Remember("t", transport.RoleServer, nil, published)
		c.Remember("t", transport.RoleServer, nil, published)
	}
	remember()
	file := filepath.Join(state, "started", "t-server.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func() error{
		"a directory": func() error { return os.MkdirAll(filepath.Join(file, "deep"), 0o700) },
		"a FIFO":      func() error { return syscall.Mkfifo(file, 0o600) },
		"a link":      func() error { return os.Symlink("elsewhere", file) },
		"too long":    func() error { return os.WriteFile(file, make([]byte, maxRecord+1), 0o600) },
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
			again, log := stateful(t, state)
			for range 2 {
				if got, ok := again.Started("t", transport.RoleServer, nil); ok {
					t.Errorf("it has started with %v", got)
				}
			}
			if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, file) || !strings.Contains(said, "transport=t") {
				t.Errorf("it logged %q", said)
			}
			remember()
			if got, ok := again.Started("t", transport.RoleServer, nil); !ok {
				t.Errorf("it was not mended: %v, %v", got, ok)
			}
		})
	}
}

// TestRecordNotPrivate: whoever can write a record could say what a bridge publishes.
func TestRecordNotPrivate(t *testing.T) {
	state := t.TempDir()
	c, _ := stateful(t, state)
	c.Remember("t", transport.RoleClient, nil, nil)
	if _, ok := c.Started("t", transport.RoleClient, nil); !ok {
		t.Fatal("it has not started")
	}
	for _, test := range []struct{ dir, want string }{{state, "nothing is cached"}, {filepath.Join(state, "started"), "made anew"}} {
		dir, want := test.dir, test.want
		if err := os.Chmod(dir, 0o770); err != nil {
			t.Fatal(err)
		}
		again, log := stateful(t, state)
		if _, ok := again.Started("t", transport.RoleClient, nil); ok {
			t.Errorf("%s: the record was believed", dir)
		}
		if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "can be written by other users") || !strings.Contains(said, want) {
			t.Errorf("%s: it logged %q", dir, said)
		}
		if err := os.Chmod(state, 0o700); err != nil {
			t.Fatal(err)
		}
	}
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
	c.Remember("t", transport.RoleClient, nil, nil)
	if _, ok := c.Started("t", transport.RoleClient, nil); !ok {
		t.Error("it is not remembered")
	}
	if code, err := os.ReadDir(filepath.Join(state, "compiled")); err != nil || len(code) != 1 {
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
		if err := c.Explain("t", failure); err.Error() != test.want || !errors.Is(err, failure) {
			t.Errorf("%q: %v, want %s", test.state, err, test.want)
		}
	}
}
