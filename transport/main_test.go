package transport

import (
	"fmt"
	"os"
	"testing"

	"waterproxy/internal/pttest"
)

var cacheDir string

// TestMain fails a run after which goroutines are left, but for the process's poller.
// compileArg makes the test binary a process that compiles.
const compileArg = "compile-module"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compileArg {
		os.Exit(RunCompiler(os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cacheDir = dir + "/cache"
	status := pttest.Run(m)
	os.RemoveAll(dir)
	os.Exit(status)
}
