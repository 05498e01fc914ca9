//go:build unix

package transport

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"waterproxy/transport/testmodules"
)

// cached compiles a module with a cache and closes it, and returns what was logged.
func cached(t *testing.T, name, dir string) string {
	t.Helper()
	var out bytes.Buffer
	m, err := Compile(testmodules.Load(t, name), CompileOptions{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// codeFile returns the only file below a directory, and what is in it.
func codeFile(t *testing.T, dir string) (file string, content []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if file != "" {
				t.Errorf("there are %s and %s", file, path)
			}
			file = path
		}
		return err
	})
	if err == nil {
		content, err = os.ReadFile(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file, content
}

// TestCacheDamaged: whatever has become of a file with compiled code, it costs one
// warning, and is mended.
func TestCacheDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	if said := cached(t, "plain_v1", dir); said != "" {
		t.Fatalf("with an empty cache: %q", said)
	}
	file, good := codeFile(t, dir)
	write := func(content []byte) func() error {
		return func() error { return os.WriteFile(file, content, 0o600) }
	}
	instead := func(make func() error) func() error {
		return func() error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return make()
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, good, 0o600); err != nil {
		t.Fatal(err)
	}
	damages := map[string]func() error{
		"empty":     write(nil),
		"truncated": write(good[:len(good)/2]),
		"one byte":  write(good[:len(good)-1]),
		"longer":    write(append(bytes.Clone(good), 0)),
		"random":    write(bytes.Repeat([]byte("random"), 1000)),
		"zeros":     write(make([]byte, len(good))),
		"a directory": instead(func() error {
			return os.MkdirAll(filepath.Join(file, "deep"), 0o700)
		}),
		"a FIFO":          instead(func() error { return syscall.Mkfifo(file, 0o600) }),
		"a link":          instead(func() error { return os.Symlink(elsewhere, file) }),
		"a dangling link": instead(func() error { return os.Symlink(elsewhere+"x", file) }),
		"writable by all": func() error { return os.Chmod(file, 0o666) },
	}
	if os.Getuid() == 0 {
		damages["another user's"] = func() error { return os.Chown(file, 1, 1) }
	} else {
		damages["unreadable"] = func() error { return os.Chmod(file, 0) }
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if said := cached(t, "plain_v1", dir); strings.Count(said, "\n") != 1 || !strings.Contains(said, "level=WARN") ||
				!strings.Contains(said, file) || !strings.Contains(said, "compiled anew") {
				t.Errorf("it logged %q", said)
			}
			if mended, content := codeFile(t, dir); mended != file || !bytes.Equal(content, good) {
				t.Errorf("%s is there now, with %d bytes; want %s with %d", mended, len(content), file, len(good))
			}
			if said := cached(t, "plain_v1", dir); said != "" {
				t.Errorf("the next time it logged %q", said)
			}
		})
	}
	if content, err := os.ReadFile(elsewhere); err != nil || !bytes.Equal(content, good) {
		t.Errorf("what a link led to has %d bytes now, %v", len(content), err)
	}
}

// TestCacheFlippedBits: a flipped bit is noticed wherever it is.
func TestCacheFlippedBits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cached(t, "plain_v1", dir)
	file, good := codeFile(t, dir)
	for at := 0; at < len(good); at += 1 + min(at, len(good)/50) {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if said := cached(t, "plain_v1", dir); strings.Count(said, "level=WARN") != 1 {
			t.Errorf("byte %d: it logged %q", at, said)
		}
	}
}

// TestCacheUnusable: a directory that cannot be used, or is not private, costs one
// warning, and nothing is read from it or written to it.
func TestCacheUnusable(t *testing.T) {
	root := t.TempDir()
	at := func(name string, mode fs.FileMode) string {
		t.Helper()
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return dir
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(file+"x", link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{
		at("775", 0o775), at("2775", 0o775|fs.ModeSetgid), at("777", 0o777), filepath.Join(at("parent", 0o775), "cache"),
		file, filepath.Join(file, "cache"), link,
	} {
		said := cached(t, "plain_v1", dir)
		if strings.Count(said, "\n") != 1 || !strings.Contains(said, "level=WARN") || !strings.Contains(said, "directory="+dir) || !strings.Contains(said, "error=") {
			t.Errorf("%s: it logged %q", dir, said)
		}
		if said := cached(t, "plain_1k_v1", dir); said != "" {
			t.Errorf("%s: the second time it logged %q", dir, said)
		}
		if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
			t.Errorf("%s: there is %v", dir, left)
		}
	}
}

// TestCacheLink: a directory may be named by a symbolic link.
func TestCacheLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if said := cached(t, "plain_v1", link); said != "" {
		t.Errorf("it logged %q", said)
	}
	codeFile(t, link+"/")
}

// TestCacheUnloadable: what has the right checksum and is not for wazero to load, or
// makes it panic, is compiled anew.
func TestCacheUnloadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cached(t, "plain_v1", dir)
	file, good := codeFile(t, dir)
	// After the magic and the version come the number of functions and their places.
	misplaced := bytes.Clone(good)
	for i := range misplaced[20:100] {
		misplaced[20+i] = 0x7f
	}
	for name, bad := range map[string][]byte{"empty": nil, "truncated": good[:len(good)/2], "garbage": []byte("garbage"), "misplaced": misplaced} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		forged := file[:len(file)-sha256.Size*2] + fmt.Sprintf("%x", sha256.Sum256(bad))
		if err := os.WriteFile(forged, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if said := cached(t, "plain_v1", dir); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "wazero cannot load") {
			t.Errorf("%s: it logged %q", name, said)
		}
		if mended, content := codeFile(t, dir); mended != file || !bytes.Equal(content, good) {
			t.Errorf("%s: %s is there now, with %d bytes; want %s with %d", name, mended, len(content), file, len(good))
		}
	}
}

// TestCachePrepared: what a large module is made into before it is compiled is kept, is
// mended if it is damaged, and is not taken for another module's.
func TestCachePrepared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	prepared := func() string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "*-prepared-*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v are kept", files, err)
		}
		return files[0]
	}
	check := func(what string, warnings int) {
		t.Helper()
		if said := cached(t, "go/argtest", dir); strings.Count(said, "level=WARN") != warnings {
			t.Errorf("%s: it logged %q", what, said)
		}
	}
	check("an empty cache", 0)
	file := prepared()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	check("again", 0)
	if prepared() != file {
		t.Error("it was kept anew")
	}
	if err := os.WriteFile(file, good[:len(good)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	check("damaged", 1)
	if mended, err := os.ReadFile(prepared()); err != nil || !bytes.Equal(mended, good) {
		t.Errorf("it was not mended: %v", err)
	}
	// Another module's, whose file has the same name but for the checksum.
	bad := bytes.Clone(good)
	bad[0] ^= 1
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	forged := file[:len(file)-sha256.Size*2] + fmt.Sprintf("%x", sha256.Sum256(bad))
	if err := os.WriteFile(forged, bad[:len(bad)-1000], 0o600); err != nil {
		t.Fatal(err)
	}
	check("not what its name has", 1)
	if err := os.WriteFile(forged, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := cached(t, "go/argtest", dir); said != "" {
		t.Errorf("another module's: it logged %q", said)
	}
}

// TestStateFIFO: a FIFO in a module's directory for state does not hold up the module.
func TestStateFIFO(t *testing.T) {
	cfg := testConfig(t, "go/files"+inOne)
	cfg.ModuleConfig = []byte("read fifo\nwrite file\n")
	cfg.StateDir = t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(cfg.StateDir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := listen(t, cfg).Args()["result"], []string{"errno:28", "ok"}; !slices.Equal(got, want) {
		t.Errorf("the module got %q, want %q", got, want)
	}
}
