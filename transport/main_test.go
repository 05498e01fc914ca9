package transport

import (
	"fmt"
	"os"
	"testing"
)

var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cacheDir = dir + "/cache"
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
