//go:build unix

package catalog

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A directory that cannot be read has no modules, and the built-in ones are there.
func TestNoDirectory(t *testing.T) {
	file := filepath.Join(directory(t, map[string]string{"file": ""}), "file")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir() // so that the module is compiled once
	for dir, want := range map[string]string{
		file:                                  "is a file, not a directory",
		filepath.Join(t.TempDir(), "missing"): "no such file or directory",
		filepath.Join(file, "below"):          "not a directory",
		fifo:                                  "is a FIFO, not a directory",
	} {
		c := Catalog{Dir: dir, StateDir: state}
		if errs := c.CheckDir(); len(errs) != 1 || !strings.Contains(errs[0].Error(), want) || !strings.Contains(errs[0].Error(), dir) {
			t.Errorf("%s: %v, want %q", dir, errs, want)
		}
		cfg, err := c.Load("plain")
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		cfg.Module.Close()
	}
}
