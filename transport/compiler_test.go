//go:build unix

package transport

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// compileApart compiles by a process of its own, and returns what was logged.
func compileApart(t *testing.T, wasm []byte, dir string, more ...func(*CompileOptions)) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := CompileOptions{CacheDir: dir, Compiler: []string{exe, compileArg}, Logger: slog.New(slog.NewTextHandler(&out, nil))}
	for _, f := range more {
		f(&o)
	}
	m, err := Compile(wasm, o)
	if err == nil {
		err = m.Close()
	}
	return out.String(), err
}

// TestCompileApart: what another process has compiled runs, and is compiled once.
func TestCompileApart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	wasm := testmodules.Load(t, "plain_v1")
	for range 2 {
		if said, err := compileApart(t, wasm, dir); err != nil || said != "" {
			t.Fatalf("%v, and the log is %s", err, said)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*-*"))
	if err != nil || len(files) != 2 { // prepared and compiled
		t.Errorf("the cache has %q, %v", files, err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := compileApart(t, wasm, dir); err != nil || !strings.Contains(said, "damaged file") {
		t.Errorf("damaged: %v, and the log is %s", err, said)
	}
}

// TestCompileApartRefuses: what is wrong with a module is the error, and the same as
// without another process.
func TestCompileApartRefuses(t *testing.T) {
	for _, name := range []string{"bad_body", "bad_truncated", "bad_text", "bad_component"} {
		wasm := testmodules.Load(t, name)
		_, apart := compileApart(t, wasm, filepath.Join(t.TempDir(), "cache"))
		_, here := Compile(wasm, CompileOptions{})
		if !errors.Is(apart, ErrModule) || here == nil || apart.Error() != here.Error() {
			t.Errorf("%s: %v, and in this process %v", name, apart, here)
		}
	}
}

// TestCompileApartFails: where there is no such process, or nothing can be kept, a module
// is compiled all the same; one that takes too much is refused by the budget, by which it
// can have more.
func TestCompileApartFails(t *testing.T) {
	wasm := testmodules.Load(t, "plain_v1")
	dir := filepath.Join(t.TempDir(), "cache")
	said, err := compileApart(t, wasm, dir, func(o *CompileOptions) { o.Compiler = []string{"/nonexistent"} })
	if err != nil || !strings.Contains(said, "without limits") {
		t.Errorf("without a program: %v, and the log is %s", err, said)
	}
	if _, err := compileApart(t, wasm, "/proc/nowhere"); err != nil {
		t.Errorf("without a directory: %v", err)
	}
	deep := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\xe6\xd4\x03\x01\xe2\xd4\x03\x00" +
		strings.Repeat("\x02\x40", 20_000) + strings.Repeat("\x0b", 20_001))
	if _, err := compileApart(t, deep, dir); !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "blocks within blocks") {
		t.Errorf("too deep: %v", err)
	}
	_, err = compileApart(t, deep, dir, func(o *CompileOptions) { o.LoadScale = 2 })
	if !errors.Is(err, ErrModule) || strings.Contains(err.Error(), "blocks within blocks") {
		t.Errorf("with a larger scale: %v, want that it has no roles", err)
	}
}
