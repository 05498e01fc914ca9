//go:build unix

package server

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is no regular file is not waited for, and a large one is not read.
func TestCookieFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	fifo, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil { // it takes no space
		t.Fatal(err)
	}
	for _, file := range []string{fifo, large, dir, "/dev/zero"} {
		if _, err := readCookie(file); err == nil {
			t.Errorf("%s has a cookie", file)
		}
	}
}
