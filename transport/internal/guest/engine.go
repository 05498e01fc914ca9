package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// engine is a wazero runtime with the host modules in it. A process has one for
// each way of compiling that it asks for, which is one in all but tests, and a second
// one if some code cannot be kept.
type engine struct {
	rt wazero.Runtime

	originsMu sync.Mutex
	origins   map[[2]uint64]wazero.CompiledModule // see origin

	// compiling has a *sync.Mutex for each module, by its hash. wazero shows a
	// module that it found in its cache to others before it is complete, so the
	// same bytes must not be compiled by two at once.
	compiling sync.Map

	code *codeCache // nil if none is kept
}

// CompileOptions say how to compile a module.
type CompileOptions struct {
	// CacheDir, if not empty, is where compiled code is kept. It must be private.
	CacheDir string
	// Interpreter does not compile to machine code. There is nothing to keep then.
	Interpreter bool
	// Scale stretches the budget of what a module may have: see wasmfile.Budget.
	Scale int
	// Child, if not nil, compiles a module in another process, which keeps the result in
	// CacheDir. An error is the module's fault, unless it is a *compilechild.StartError.
	Child func(ctx context.Context, wasm []byte) error
	// KeepAll keeps small modules as they are compiled, too: this process is such a child.
	KeepAll bool
	// Log gets what is wrong with CacheDir, and with what is in it.
	Log *slog.Logger
}

// compile compiles a module in the process's engine for these options. If code cannot be
// kept, it compiles without.
func compile(ctx context.Context, wasm []byte, o CompileOptions, child *childRun) (*engine, wazero.CompiledModule, error) {
	var keeping *engine
	var notKept error
	if o.CacheDir != "" && !o.Interpreter {
		if keeping, notKept = getEngine(engineKey{cacheDir: o.CacheDir}); notKept == nil {
			var c wazero.CompiledModule
			if c, notKept = keeping.compile(ctx, wasm, o.Log, child); notKept == nil {
				return keeping, c, nil
			}
			if _, ok := errors.AsType[*childError](notKept); ok {
				return nil, nil, notKept
			}
		}
	}
	e, err := getEngine(engineKey{interpreter: o.Interpreter})
	if err != nil {
		return nil, nil, err
	}
	c, err := e.compile(ctx, wasm, o.Log, child)
	if err != nil {
		return nil, nil, err // it is the module's fault
	}
	if keeping != nil {
		keeping.code.full.Store(true)
	}
	if notKept != nil {
		reportNotKept(o, notKept)
	}
	return e, c, nil
}

// reported has the cache directories of which a process has reported that nothing can be
// kept there.
var reported sync.Map

func reportNotKept(o CompileOptions, err error) {
	if _, twice := reported.LoadOrStore(o.CacheDir, true); !twice {
		o.Log.Warn("compiled modules cannot be kept, so each start compiles them, which takes about a second for each",
			"directory", o.CacheDir, "error", err)
	}
}

// compile is CompileModule, safe for concurrent use, and with the code of earlier
// processes if it is kept.
func (e *engine) compile(ctx context.Context, wasm []byte, log *slog.Logger, child *childRun) (wazero.CompiledModule, error) {
	sum := sha256.Sum256(wasm)
	mu, _ := e.compiling.LoadOrStore(sum, new(sync.Mutex))
	mu.(*sync.Mutex).Lock()
	defer mu.(*sync.Mutex).Unlock()
	if e.code != nil {
		return e.code.compile(ctx, e.rt, wasm, sum, log, child)
	}
	return compileModule(ctx, e.rt, wasm)
}

// compileUnkept compiles a module that takes no time to compile.
func (e *engine) compileUnkept(ctx context.Context, wasm []byte) (wazero.CompiledModule, error) {
	if e.code != nil {
		return e.code.compileUnkept(ctx, e.rt, wasm)
	}
	return compileModule(ctx, e.rt, wasm)
}

// compileModule is CompileModule, in which a fault of the compiler is an error.
func compileModule(ctx context.Context, rt wazero.Runtime, wasm []byte) (c wazero.CompiledModule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the compiler (wazero) fails on it: %v", r)
		}
	}()
	return rt.CompileModule(ctx, wasm)
}

// engineKey is what engines differ in.
type engineKey struct {
	interpreter bool
	cacheDir    string
}

var (
	enginesMu sync.Mutex
	engines   = map[engineKey]*engine{}
)

// features are those of WebAssembly 2.0, which every toolchain's output needs at
// most, and threads.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesThreads

// runtimeConfig is that of every runtime: what one has compiled another can load.
func runtimeConfig(interpreter bool) wazero.RuntimeConfig {
	cfg := wazero.NewRuntimeConfigCompiler()
	if interpreter {
		cfg = wazero.NewRuntimeConfigInterpreter()
	}
	return cfg.WithCoreFeatures(features).WithDebugInfoEnabled(false)
}

// newRuntime is NewRuntimeWithConfig, which panics where a system protection forbids a
// process to run code that it has compiled itself.
func newRuntime(ctx context.Context, cfg wazero.RuntimeConfig) (rt wazero.Runtime, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("modules are compiled to machine code, and this system lets no process run its own: %v; "+
				"take back MemoryDenyWriteExecute= of the systemd unit, or what a policy of another kind (SELinux, PaX) says of executable memory", r)
		}
	}()
	return wazero.NewRuntimeWithConfig(ctx, cfg), nil
}

func getEngine(k engineKey) (*engine, error) {
	enginesMu.Lock()
	defer enginesMu.Unlock()
	if e := engines[k]; e != nil {
		return e, nil
	}
	e := &engine{origins: map[[2]uint64]wazero.CompiledModule{}}
	cfg := runtimeConfig(k.interpreter)
	if k.cacheDir != "" {
		code, cache, err := openCodeCache(k.cacheDir)
		if err != nil {
			return nil, err
		}
		e.code, cfg = code, cfg.WithCompilationCache(cache)
	}
	ctx := context.Background()
	rt, err := newRuntime(ctx, cfg)
	if err != nil {
		return nil, err
	}
	e.rt = rt
	if err := instantiateHost(ctx, e.rt); err != nil {
		return nil, err
	}
	engines[k] = e
	return e, nil
}
