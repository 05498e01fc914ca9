package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/cpu"

	"waterproxy/transport/internal/codecache"
)

// codeCache is the way between wazero and the code that is kept. An engine's runtime only
// loads from it, out of a scratch directory; what has to be compiled is compiled by a
// runtime of its own, in a scratch directory of its own, so that what wazero has written
// there is known to be the module's.
type codeCache struct {
	store  *codecache.Store
	loads  *codecache.Scratch // what the engine's runtime was given for a cache
	format string             // wazero's directory in that, named after version and platform
	full   atomic.Bool        // nothing can be written
}

// codeFactor is how many times the size of a module its code may have. What Go's compiler
// has written becomes four to six times as large.
const codeFactor = 8

var errFull = errors.New("an earlier module could not be kept")

// openCodeCache opens what is kept in dir, and returns the cache for an engine's runtime.
func openCodeCache(dir string) (_ *codeCache, cache wazero.CompilationCache, err error) {
	c := new(codeCache)
	if c.store, err = codecache.Open(dir); err != nil {
		return nil, nil, err
	}
	c.loads = c.store.NewScratch()
	release, err := c.loads.Use()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if cache, err = wazero.NewCompilationCacheWithDir(c.loads.Dir); err != nil {
		return nil, nil, err
	}
	inside, err := onlyFile(c.loads.Dir)
	c.format = filepath.Base(inside)
	return c, cache, err
}

// onlyFile returns the path of the only file in a directory.
func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", fmt.Errorf("wazero has left %d files in %s, want one", len(entries), dir)
	}
	return filepath.Join(dir, entries[0].Name()), nil
}

// compile loads a module's code into rt, after it has compiled and kept it if it was not
// kept or is damaged.
func (c *codeCache) compile(ctx context.Context, rt wazero.Runtime, wasm []byte, sum [sha256.Size]byte, log *slog.Logger, child *childRun) (wazero.CompiledModule, error) {
	// Code is for one processor: wazero looks at some of its features, and this at all.
	id := codecache.ID(string(sum[:]), c.format, fmt.Sprint(features), fmt.Sprint(cpu.X86, cpu.ARM64))
	if m, done, err := c.loadKept(ctx, rt, wasm, id, log); done {
		return m, err
	}
	switch again, err := child.try(ctx); {
	case err != nil:
		return nil, err
	case again:
		if m, done, err := c.loadKept(ctx, rt, wasm, id, log); done {
			return m, err
		}
	}
	if c.full.Load() {
		return nil, errFull
	}
	// To compile what cannot be written would be to compile twice.
	if err := c.store.CheckRoom(codeFactor * len(wasm)); err != nil {
		return nil, err
	}
	entry, err := c.add(ctx, wasm, id)
	if err != nil {
		return nil, err
	}
	// The other runtime has the same code in memory, until it is collected.
	runtime.GC()
	return c.load(ctx, rt, wasm, entry)
}

// loadKept loads a module's code if it is kept, and done then tells so.
func (c *codeCache) loadKept(ctx context.Context, rt wazero.Runtime, wasm []byte, id string, log *slog.Logger) (m wazero.CompiledModule, done bool, err error) {
	entry, ok, damaged := c.store.Find(id)
	for _, err := range damaged {
		log.Warn("a damaged file with compiled code is removed, and the module compiled anew", "error", err)
	}
	if !ok {
		return nil, false, nil
	}
	m, err = c.load(ctx, rt, wasm, entry)
	switch {
	case errors.Is(err, errUnloadable):
		log.Warn("wazero cannot load compiled code; it is removed, and the module compiled anew", "error", err)
		err = c.store.Remove(entry)
		return nil, err != nil, err
	case errors.Is(err, fs.ErrNotExist): // another process has removed it meanwhile
		return nil, false, nil
	}
	return m, true, err
}

// compileUnkept compiles a module in rt itself and keeps nothing.
func (c *codeCache) compileUnkept(ctx context.Context, rt wazero.Runtime, wasm []byte) (m wazero.CompiledModule, err error) {
	release, err := c.useLoads()
	if err != nil {
		return nil, err
	}
	defer release()
	return compileModule(ctx, rt, wasm)
}

// useLoads makes the directory that rt has for a cache, until release is called.
func (c *codeCache) useLoads() (release func(), err error) {
	remove, err := c.loads.Use()
	if err != nil {
		return nil, err
	}
	release = func() { _ = remove() } // the next process removes what is left
	if err := os.Mkdir(filepath.Join(c.loads.Dir, c.format), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		release()
		return nil, err
	}
	return release, nil
}

// errUnloadable is an intact entry that wazero cannot load.
var errUnloadable = errors.New("cannot load compiled code")

// load loads an entry that is intact.
func (c *codeCache) load(ctx context.Context, rt wazero.Runtime, wasm []byte, entry codecache.Entry) (m wazero.CompiledModule, err error) {
	release, err := c.useLoads()
	if err != nil {
		return nil, err
	}
	defer release()
	file, err := c.store.Put(entry, filepath.Join(c.loads.Dir, c.format))
	if err != nil {
		return nil, err
	}
	defer os.Remove(file)
	if m, err = compileModule(ctx, rt, wasm); err != nil {
		err = fmt.Errorf("%w: %w", errUnloadable, err)
	}
	return m, err
}

// add compiles a module and keeps the code. The error may be the module's fault.
func (c *codeCache) add(ctx context.Context, wasm []byte, id string) (entry codecache.Entry, err error) {
	scratch := c.store.NewScratch()
	release, err := scratch.Use()
	if err != nil {
		return entry, err
	}
	defer func() { err = errors.Join(err, release()) }()
	cache, err := wazero.NewCompilationCacheWithDir(scratch.Dir)
	if err != nil {
		return entry, err
	}
	defer func() { err = errors.Join(err, cache.Close(ctx)) }()
	rt, err := newRuntime(ctx, runtimeConfig(false).WithCompilationCache(cache))
	if err != nil {
		return entry, err
	}
	defer func() { err = errors.Join(err, rt.Close(ctx)) }()
	m, err := compileModule(ctx, rt, wasm)
	if err != nil {
		return entry, err
	}
	file, err := onlyFile(filepath.Join(scratch.Dir, c.format))
	if err == nil {
		entry, err = c.store.Add(id, file)
	}
	return entry, errors.Join(err, m.Close(ctx))
}
