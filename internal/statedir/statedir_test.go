//go:build unix

package statedir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWriteFile: a file is replaced, and nothing else is left: what a killed process left
// long ago goes, and what another may be writing stays.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "name")
	old, recent := name+".1"+tempSuffix, name+".2"+tempSuffix
	for _, file := range []string{name, old, recent} {
		if err := os.WriteFile(file, []byte("before"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * tempAge)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(name, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadFile(name, 5); string(text) != "after" {
		t.Errorf("read %q, %v", text, err)
	}
	if _, err := ReadFile(name, 4); err == nil {
		t.Error("a file beyond the limit was read")
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[1].Name() != filepath.Base(recent) {
		t.Errorf("%v, %v are left", entries, err)
	}
	if err := WriteFile(dir, nil); err == nil {
		t.Error("a directory was replaced")
	}
}

// TestOpen: what is no regular file is refused, without waiting for it.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	target := at("target", os.WriteFile(filepath.Join(dir, "target"), nil, 0o600))
	for _, name := range []string{
		dir,
		at("fifo", syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)),
		at("link", os.Symlink(target, filepath.Join(dir, "link"))),
	} {
		for what, open := range map[string]func(string) (*os.File, error){"read": Open, "append": OpenAppend} {
			if f, err := open(name); err == nil {
				f.Close()
				t.Errorf("%s was opened to %s", name, what)
			}
		}
	}
}

// TestPrivate: a directory is private if no other user can write to it or replace it, by
// whatever name.
func TestPrivate(t *testing.T) {
	root := t.TempDir()
	at := func(mode os.FileMode, names ...string) string {
		t.Helper()
		dir := filepath.Join(append([]string{root}, names...)...)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	link := func(to string, names ...string) string {
		t.Helper()
		name := filepath.Join(append([]string{root}, names...)...)
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := at(0o755, "good")
	at(0o775, "open")
	at(0o777|os.ModeSticky, "sticky")
	inOpen := at(0o700, "open", "private")
	for dir, want := range map[string]string{
		good:                               "",
		at(0o700, "sticky", "private"):     "",
		link("good", "link"):               "",
		inOpen:                             "can be written",
		filepath.Join(root, "open"):        "can be written",
		filepath.Join(root, "sticky"):      "can be written",
		link(inOpen, "link to open"):       "can be written",
		link(good, "open", "link to good"): "can be written",
		filepath.Join(root, "missing"):     "no such file",
	} {
		switch err := CheckPrivate(dir); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", dir, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(good, 1, 1); err != nil {
			t.Fatal(err)
		}
		if err := CheckPrivate(good); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another user's: %v", err)
		}
	}
}

// TestTry: what is tried leaves nothing, and an error names the directory.
func TestTry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	if err := Try(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
	if err := Try("/proc"); err == nil || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("in a directory of no files: %v", err)
	}
}
