package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"

	"waterproxy/transport/internal/linmem"
	"waterproxy/transport/internal/wasmfile"
)

// Module is a compiled module, shared by its instances.
type Module struct {
	engine   *engine
	compiled wazero.CompiledModule
	shape    *Shape
	memory   wasmfile.Memory
	tables   wasmfile.Tables
	image    *linmem.Image // the initial content of memory; nil if wazero sees to it

	mu       sync.Mutex
	running  int  // instances
	retained int  // see Retain
	closed   bool // the code is to be freed as soon as nothing uses it
}

// Compile compiles a module and finds out what it offers. sum is the SHA-256 of wasm.
func Compile(ctx context.Context, wasm []byte, sum [sha256.Size]byte, o CompileOptions) (*Module, error) {
	measures, err := wasmfile.Measure(wasm)
	if err != nil {
		return nil, invalid(err)
	}
	if err := measures.Check(o.Scale); err != nil {
		return nil, err
	}
	child := &childRun{o: o, wasm: wasm}
	rewritten, image, err := prepare(ctx, wasm, sum, o, child)
	if err != nil {
		return nil, invalid(err)
	}
	e, c, err := compile(ctx, rewritten, o, child)
	if err != nil {
		return nil, invalid(err)
	}
	m := &Module{engine: e, compiled: c}
	if m.tables, err = wasmfile.ReadTables(wasm); err == nil {
		m.memory, err = wasmfile.ReadMemory(wasm)
	}
	if err == nil {
		m.shape, err = inspect(c, m.memory.Shared)
	}
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	if len(image.Bytes) > 0 {
		m.image = linmem.NewImage(image.Offset, image.Bytes)
	}
	return m, nil
}

// invalid says once what is wrong with a file; a child has said it already.
func invalid(err error) error {
	if _, ok := errors.AsType[*childError](err); ok {
		return err
	}
	return fmt.Errorf("it is no valid WebAssembly: %w", err)
}

// rewrite makes a module stoppable, its data shareable, and its memory too if it is
// one for threads.
func rewrite(wasm []byte) (rewritten []byte, image wasmfile.Image, err error) {
	rewritten, err = wasmfile.ShareMemory(wasm)
	if err == nil {
		rewritten, err = wasmfile.AddStop(rewritten)
	}
	if err != nil {
		return nil, image, err
	}
	return wasmfile.TakeData(rewritten)
}

// Shape returns what the module offers.
func (m *Module) Shape() *Shape { return m.shape }

// Memory returns what the module declares about its linear memory.
func (m *Module) Memory() wasmfile.Memory { return m.memory }

// Imports returns the functions that the module imports, as MODULE.NAME, sorted.
func (m *Module) Imports() (names []string) {
	for _, d := range m.compiled.ImportedFunctions() {
		if mod, name, _ := d.Import(); mod != wasmfile.FutexModule {
			names = append(names, mod+"."+name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Running returns the number of instances that have not been released.
func (m *Module) Running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running
}

// Retain keeps the compiled code until the function it returns is called, so that
// instances can be started in spite of Close.
func (m *Module) Retain() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retained++
	return sync.OnceFunc(func() {
		// It cannot fail: see Close.
		_ = m.unuse(&m.retained)
	})
}

// count counts an instance that is about to start, unless there are too many.
func (m *Module) count(limit int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed && m.retained == 0:
		return errClosed
	case m.running >= limit:
		return &LimitError{"instances", limit}
	}
	m.running++
	return nil
}

var errClosed = errors.New("the module has been closed")

// unuse takes one from a count of uses.
func (m *Module) unuse(count *int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	*count--
	return m.freeIfUnused()
}

// freeIfUnused is the end of Close. The lock is held.
func (m *Module) freeIfUnused() error {
	if !m.closed || m.running > 0 || m.retained > 0 {
		return nil
	}
	return m.compiled.Close(context.Background())
}

// Close frees the compiled code as soon as no instance uses it. wazero's way of
// doing so has no error.
func (m *Module) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	return m.freeIfUnused()
}
