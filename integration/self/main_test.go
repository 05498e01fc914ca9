// Package self has tests of the program's own process: the test binary is the program.
package self

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"waterproxy/internal/command"
	"waterproxy/internal/pttest"
)

// stateDir is shared by the processes of all tests, so that each module is
// compiled once.
var stateDir string

func TestMain(m *testing.M) {
	pttest.BeProgram(command.Main)
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	stateDir = dir + "/pt_state"
	status := pttest.Run(m)
	os.RemoveAll(dir)
	os.Exit(status)
}

// plainState is stateDir for processes of the plain program, whose code is another.
func plainState() string { return stateDir + "-plain" }

// warmState returns a new state directory with nothing in it but what the processes of other
// tests have compiled: it is for tests of what else is kept there.
func warmState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, "compiled"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(stateDir, "compiled", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		// Another process may put a new file in the place of one meanwhile.
		if err := os.Link(file, filepath.Join(dir, "compiled", filepath.Base(file))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return dir
}

// plainProgram returns the program without the race detector, as make waterproxy builds
// it. It is for tests in which a process does one thing after the other, of which most is
// to compile a module: the detector would make that twice as long, and see nothing.
var plainProgram = sync.OnceValues(func() (string, error) {
	if !pttest.Race {
		return os.Args[0], nil
	}
	exe := filepath.Join(filepath.Dir(stateDir), "waterproxy")
	return exe, buildProgram(exe)
})

// buildProgram builds the program, with more flags for go build.
func buildProgram(exe string, flags ...string) error {
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", exe}, flags...), ".")...)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
