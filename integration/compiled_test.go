package integration

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// compiled is a state directory of our program, in which transports are compiled once for all
// tests. TestMain removes it.
var compiled struct {
	sync.Mutex
	dir        string
	transports map[string]bool
}

// warmState returns a new state directory with nothing in it but the compiled code of built-in
// transports.
func warmState(t *testing.T, transports ...string) string {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	for _, transport := range transports {
		if !compiled.transports[transport] {
			compileOnce(t, transport)
		}
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, "compiled"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(compiled.dir, "compiled", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files are compiled, %v", len(files), err)
	}
	for _, file := range files {
		if err := os.Link(file, filepath.Join(dir, "compiled", filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compileOnce has our program compile a transport. The caller holds the lock.
func compileOnce(t *testing.T, transport string) {
	t.Helper()
	if compiled.dir == "" {
		dir, err := os.MkdirTemp("", "waterproxy-compiled-")
		if err != nil {
			t.Fatal(err)
		}
		compiled.dir, compiled.transports = dir, map[string]bool{}
	}
	variables := ptproc.Client(compiled.dir, transport)
	p := pttest.New(t, variables, waterproxy(t))
	p.Begin()
	p.Address(transport)
	end(t, p)
	compiled.transports[transport] = true
}

// removeCompiled removes what warmState keeps.
func removeCompiled() error {
	compiled.Lock()
	defer compiled.Unlock()
	if err := os.RemoveAll(compiled.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
