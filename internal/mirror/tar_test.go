package mirror

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pack returns a tar file with entries: a name that ends in / is a folder, a content that
// begins with "-> " a symbolic link.
func pack(t *testing.T, entries ...[2]string) string {
	t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(e[1]))}
		if target, ok := strings.CutPrefix(e[1], "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if strings.HasSuffix(e[0], "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, packed.Bytes())
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func openFile(t *testing.T, file string) Mirror {
	t.Helper()
	m, err := Open(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestTar: the repository is found wherever the file has it, and nothing of the file is a
// way out of it.
func TestTar(t *testing.T) {
	for _, folder := range []string{"", "./", "repository/", "./a/b/"} {
		m := openFile(t, pack(t, [2]string{folder + "targets/", ""}, [2]string{folder + "timestamp.json", "now"}, [2]string{folder + "targets/a", "module"}))
		for file, want := range map[string]string{"timestamp.json": "now", "targets/a": "module"} {
			if got, err := m.Get(context.Background(), file, 100); err != nil || string(got) != want {
				t.Errorf("%q %s: %q, %v", folder, file, got, err)
			}
		}
		if _, err := m.Get(context.Background(), "targets", 100); !errors.Is(err, ErrNotFound) {
			t.Errorf("a folder is a file: %v", err)
		}
		if _, err := m.Get(context.Background(), "targets/a", 5); !errors.Is(err, ErrTooLarge) {
			t.Errorf("more than may be: %v", err)
		}
	}
	m := openFile(t, pack(t, [2]string{"timestamp.json", "now"}, [2]string{"../out", "x"}, [2]string{"link", "-> /etc/passwd"}, [2]string{"/etc/hosts", "x"}))
	for _, file := range []string{"link", "../../etc/passwd", "/etc/passwd", "etc/passwd"} {
		if got, err := m.Get(context.Background(), file, 1<<20); err == nil {
			t.Errorf("%s is %q", file, got)
		}
	}
}

// TestTarResume: what was there before is replaced, since nothing says whose beginning it
// is.
func TestTarResume(t *testing.T) {
	m := openFile(t, pack(t, [2]string{"timestamp.json", "now"}))
	to, err := os.Create(filepath.Join(t.TempDir(), "to"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := to.WriteString("another file, which is longer"); err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(context.Background(), "timestamp.json", to, 100); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to.Name()); err != nil || string(got) != "now" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestBadTar: what is no tar file, or one without a repository, is an error at once.
func TestBadTar(t *testing.T) {
	good := pack(t, [2]string{"timestamp.json", "now"}, [2]string{"a", strings.Repeat("x", 2000)})
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"text": write(t, []byte(strings.Repeat("no tar file", 100))), "empty": write(t, nil), "cut": write(t, whole[:2000]),
		"other": pack(t, [2]string{"readme", "x"}), "missing": "/nowhere.tar", "device": "/dev/zero",
	} {
		if m, err := Open(file, Options{}); err == nil {
			m.Close()
			t.Errorf("%s is a repository", name)
		}
	}
}

// TestOpen: what is no place for a repository is an error that repeats no password.
func TestOpen(t *testing.T) {
	for _, where := range []string{"", "ftp://h/x", "https://", "https://u:secret@/x", "https://u:secret@h/x?q=1", "https://u:secret@h:port/x", "http://h/x#f"} {
		m, err := Open(where, Options{})
		if err == nil {
			m.Close()
			t.Errorf("%q is a repository", where)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the password is in %q", where, err)
		}
	}
	for where, want := range map[string]string{"https://h/x": "443", "http://h/x": "80", "http://h:8080": "8080", "/srv/x": "", "file:///srv/x": "", "x.tar": ""} {
		if got := Port(where); got != want {
			t.Errorf("%s has port %q, want %q", where, got, want)
		}
	}
}
