package guest

import (
	"crypto/sha256"
	"log/slog"
	"sync"
	"testing"

	"waterproxy/transport/testmodules"
)

// TestCompileSameModule: two transports may use one file, also when its compiled
// code is already on disk.
func TestCompileSameModule(t *testing.T) {
	wasm := testmodules.Load(t, "plain_v1")
	dir := t.TempDir()
	for _, m := range compileAtOnce(t, wasm, dir, 1) { // fills the cache
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 40 {
		for _, m := range compileAtOnce(t, wasm, dir, 8) {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// compileAtOnce compiles a module n times at once and starts an instance of each.
func compileAtOnce(t *testing.T, wasm []byte, cacheDir string, n int) []*Module {
	t.Helper()
	o := Options{
		Role: Client, Host: echoHost, Limits: Limits{Memory: 64 << 20, Instances: 1, Descriptors: 16},
		Logger: slog.New(slog.DiscardHandler),
	}
	modules := make([]*Module, n)
	var wg sync.WaitGroup
	for i := range modules {
		wg.Go(func() {
			m, err := Compile(t.Context(), wasm, sha256.Sum256(wasm), CompileOptions{CacheDir: cacheDir, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
				return
			}
			modules[i] = m
			if _, err := Probe(t.Context(), m, o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return modules
}
