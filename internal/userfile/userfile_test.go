//go:build unix

package userfile

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "12345")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link} {
		if content, err := Read(name, 5); err != nil || string(content) != "12345" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		if _, err := Read(name, 4); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), name+" is too large: it has more than 4 bytes") {
			t.Errorf("%s, with another limit: %v", name, err)
		}
	}
	if content, err := Read(write(t, filepath.Join(dir, "empty"), ""), 0); err != nil || len(content) > 0 {
		t.Errorf("an empty file: %q, %v", content, err)
	}
}

// What is not a regular file is not opened, let alone waited for.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := errors.Join(
		syscall.Mkfifo(at("fifo"), 0o600),
		os.Symlink("fifo", at("link")),
		os.Symlink("nothing", at("dangling")),
		os.Symlink("loop", at("loop")),
	); err != nil {
		t.Fatal(err)
	}
	file := write(t, at("file"), "")
	for name, want := range map[string]string{
		at("fifo"):        "is a FIFO",
		at("link"):        "is a FIFO",
		at("socket"):      "is a socket",
		"/dev/zero":       "is a device",
		at("dangling"):    "no such file",
		at("loop"):        "too many levels",
		at("missing"):     "no such file",
		file + "/x":       "not a directory",
		"":                "no such file",
		at("bad\x00name"): "invalid argument",
	} {
		if _, err := Read(name, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
		if _, err := ReadDir(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q as a directory: %v, want %q", name, err, want)
		}
	}
	if _, err := Read(dir, 10); err == nil || !strings.Contains(err.Error(), dir+" is a directory, not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := ReadDir(file); err == nil || !strings.Contains(err.Error(), file+" is a file, not a directory") {
		t.Errorf("a file as a directory: %v", err)
	}
}

// A large file costs nothing, whether it is known to be large or not.
func TestTooLarge(t *testing.T) {
	sparse := write(t, filepath.Join(t.TempDir(), "sparse"), "")
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	// Files of /proc say that they have no byte.
	for _, name := range []string{sparse, "/proc/self/environ"} {
		var err error
		allocated := testing.Benchmark(func(b *testing.B) {
			for range b.N {
				_, err = Read(name, 10)
			}
		}).AllocedBytesPerOp()
		if !errors.Is(err, ErrTooLarge) || allocated > 64<<10 {
			t.Errorf("%s: %v, with %d bytes allocated", name, err, allocated)
		}
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	if entries, err := ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("an empty directory: %v, %v", entries, err)
	}
	for i := range maxEntries {
		write(t, filepath.Join(dir, fmt.Sprint(i)), "")
	}
	if entries, err := ReadDir(dir); err != nil || len(entries) != maxEntries {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	write(t, filepath.Join(dir, "more"), "")
	if _, err := ReadDir(dir); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), dir) {
		t.Errorf("one more: %v", err)
	}
}

// A file system that does not answer is given up.
func TestHangs(t *testing.T) {
	answer := make(chan struct{})
	defer close(answer)
	_, err := within(time.Millisecond, "name", func() (int, error) { <-answer; return 1, nil })
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(err.Error(), "name: not read within 1ms") {
		t.Error(err)
	}
}
