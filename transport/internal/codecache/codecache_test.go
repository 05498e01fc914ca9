package codecache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// code is a name like wazero's.
var code = strings.Repeat("0123456789abcdef", 4)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add keeps a text in the Store, as if wazero had written it.
func add(t *testing.T, s *Store, id, text string) Entry {
	t.Helper()
	scratch := s.NewScratch()
	release, err := scratch.Use()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(scratch.Dir, code)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := s.Add(id, file)
	if err := errors.Join(err, release()); err != nil {
		t.Fatal(err)
	}
	return e
}

func names(t *testing.T, s *Store) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestKept: an entry is found again, by another Store of the same directory as well, and
// wazero gets it under its own name.
func TestKept(t *testing.T) {
	s := open(t)
	id := ID("module")
	e := add(t, s, id, "text")
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	found, ok, damaged := again.Find(id)
	if !ok || found != e || damaged != nil {
		t.Fatalf("found %v, %v, %v; want %v", found, ok, damaged, e)
	}
	if _, ok, _ := s.Find(ID("another")); ok {
		t.Error("another module's code was found")
	}
	file, err := again.Put(found, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); string(text) != "text" || filepath.Base(file) != code {
		t.Errorf("%s has %q, %v", file, text, err)
	}
	if left := names(t, s); len(left) != 1 {
		t.Errorf("%q are left, want the entry alone", left)
	}
}

// TestCopied: there are file systems without links.
func TestCopied(t *testing.T) {
	s := open(t)
	e := add(t, s, ID("module"), "text")
	to := filepath.Join(t.TempDir(), "copy")
	if err := copyFile(s.path(e), to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); string(text) != "text" {
		t.Errorf("the copy is %q, %v", text, err)
	}
}

// TestPrune: what was not used for long goes, and what is more than the limit; what is
// used stays.
func TestPrune(t *testing.T) {
	s := open(t)
	age := func(e Entry, by time.Duration) {
		t.Helper()
		when := time.Now().Add(-by)
		if err := os.Chtimes(s.path(e), when, when); err != nil {
			t.Fatal(err)
		}
	}
	old, used := ID("old"), ID("used")
	age(add(t, s, old, "old"), maxAge+time.Hour)
	age(add(t, s, used, "used"), maxAge+time.Hour)
	if _, ok, damaged := s.Find(used); !ok {
		t.Fatalf("not found: %v", damaged)
	}
	add(t, s, ID("new"), "new")
	if _, ok, _ := s.Find(old); ok {
		t.Error("an entry that has not been used for long is still there")
	}
	for i := range maxEntries + 3 {
		add(t, s, ID(fmt.Sprint(i)), fmt.Sprint(i))
	}
	if n := len(names(t, s)); n != maxEntries {
		t.Errorf("%d entries, want %d", n, maxEntries)
	}
}

// TestOldLayout: what wazero has written by itself is removed, and what is not ours is
// not.
func TestOldLayout(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"wazero-v1.0.0-amd64-linux", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, code), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left := fmt.Sprint(names(t, s)); left != "[other]" {
		t.Errorf("%s are left", left)
	}
}

// TestScratch: a directory is there while anyone uses it; another process leaves it
// alone then, and removes what a killed one has left.
func TestScratch(t *testing.T) {
	s := open(t)
	leftOver := filepath.Join(s.dir, scratchPrefix+"KILLED")
	if err := os.MkdirAll(filepath.Join(leftOver, "wazero-x"), 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * scratchAge) // where there are no locks
	if err := os.Chtimes(leftOver, long, long); err != nil {
		t.Fatal(err)
	}
	scratch := s.NewScratch()
	first, err := scratch.Use()
	if err != nil {
		t.Fatal(err)
	}
	second, err := scratch.Use()
	if err != nil {
		t.Fatal(err)
	}
	exists := func(dir string) bool {
		_, err := os.Stat(dir)
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, release := range []func() error{first, second} {
		if _, err := Open(s.dir); err != nil {
			t.Fatal(err)
		}
		if !exists(scratch.Dir) {
			t.Fatal("a directory in use has been removed")
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{scratch.Dir, leftOver} {
		if exists(dir) {
			t.Errorf("%s is left", dir)
		}
	}
	if release, err := scratch.Use(); err != nil {
		t.Errorf("it cannot be used again: %v", err)
	} else if err := release(); err != nil {
		t.Error(err)
	}
}
