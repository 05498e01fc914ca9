// Package testmodules finds the WebAssembly modules that the tests of the
// runtime use: well-behaved, ill-behaved and broken ones. Their sources are in
// src; build.sh turns them into files in built, and README.md lists what each
// one does.
package testmodules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Path returns where the module is, or would be once it is built. The name is
// that of README.md's table, without ".wasm".
func Path(name string) string {
	return filepath.Join(dir(), "built", name+".wasm")
}

// Load returns the module's bytes. It ends the test if the module was not
// built, and skips it if the module is one in Rust that was left out because
// there was no compiler for it.
func Load(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		if strings.Contains(name, "rust_") {
			if why, err := os.ReadFile(filepath.Join(dir(), "built", "rust_left_out")); err == nil {
				tb.Skipf("test module %s: %s", name, strings.TrimSpace(string(why)))
			}
		}
		tb.Fatalf("test module %s is not built: run make testmodules", name)
	}
	if err != nil {
		tb.Fatalf("test module %s: %v", name, err)
	}
	return b
}

// Names returns the names of all built modules that begin with prefix, sorted:
// "evil_" and "bad_" for those that are no good. It ends the test if there are
// none.
func Names(tb testing.TB, prefix string) []string {
	tb.Helper()
	files, err := filepath.Glob(Path(prefix + "*"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 {
		tb.Fatalf("no test modules %s* are built: run make testmodules", prefix)
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(filepath.Base(file), ".wasm")
	}
	return names
}

// dir is this folder, found from the one that the test runs in: what the
// compiler recorded is of no use in a build with -trimpath.
func dir() string {
	const here = "transport/testmodules"
	at, err := os.Getwd()
	if err != nil {
		return here
	}
	for {
		found := filepath.Join(at, filepath.FromSlash(here))
		if _, err := os.Stat(filepath.Join(found, "modules.list")); err == nil {
			return found
		}
		up := filepath.Dir(at)
		if up == at {
			return here
		}
		at = up
	}
}
