package transport

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var cacheDir string

// TestMain fails a run after which goroutines are left, but for the process's poller.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cacheDir = dir + "/cache"
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreAnyFunction("waterproxy/transport/internal/stream.(*epoll).run")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.RemoveAll(dir)
	os.Exit(code)
}
