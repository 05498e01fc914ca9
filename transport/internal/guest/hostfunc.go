package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"waterproxy/transport/internal/wasmfile"
)

// hostFunc is a function that modules can import. Its arguments and its result
// share the stack, as with api.GoModuleFunc.
type hostFunc struct {
	name   string
	params []api.ValueType
	result bool // one i32
	call   func(c *call, stack []uint64)
}

// call is one host call: the thread that makes it and its memory.
type call struct {
	*thread
	mem memory
}

// memory is what host calls need of a module's memory.
type memory interface {
	Read(at, n uint32) ([]byte, bool)
	WriteUint32Le(at, v uint32) bool
	WriteUint64Le(at uint32, v uint64) bool
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

func types(ts ...api.ValueType) []api.ValueType { return ts }

// wasiFunc makes a hostFunc of a function that returns a WASI error number.
func wasiFunc(name string, f func(c *call, a []uint64) errno, params ...api.ValueType) hostFunc {
	return hostFunc{name, params, true, func(c *call, stack []uint64) {
		stack[0] = uint64(f(c, stack))
	}}
}

// hostModules lists everything that a module can import, by module name. The
// functions of WASI that touch no descriptor (random numbers, arguments)
// come from wazero; see wazeroFuncs.
var hostModules = map[string][]hostFunc{
	"env":                             watmFuncs,
	"wasi":                            {{"thread-spawn", types(i32), true, threadSpawn}},
	wasmfile.FutexModule:              futexFuncs,
	CryptoModule:                      cryptoFuncs,
	wasi_snapshot_preview1.ModuleName: slices.Concat(ioFuncs, pollFuncs, fileFuncs, processFuncs),
}

// instantiateHost puts the host modules into a runtime.
func instantiateHost(ctx context.Context, rt wazero.Runtime) error {
	for name, funcs := range hostModules {
		b := rt.NewHostModuleBuilder(name)
		if name == wasi_snapshot_preview1.ModuleName {
			wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
		}
		for _, f := range funcs {
			var results []api.ValueType
			if f.result {
				results = types(i32)
			}
			b.NewFunctionBuilder().WithGoModuleFunction(f.goModuleFunc(), f.params, results).Export(f.name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
	}
	return nil
}

func (f hostFunc) goModuleFunc() api.GoModuleFunc {
	// A call shows that its thread goes on: see threads.awaitLeaving.
	shows := f.name != wasmfile.Notify && f.name != wasmfile.Checkpoint
	return func(ctx context.Context, m api.Module, stack []uint64) {
		t := ctx.Value(threadKey{}).(*thread)
		t.in.checkAlive()
		t.in.calls.all.Add(1)
		for i, p := range f.params {
			if p == i32 { // the upper half holds anything
				stack[i] = uint64(uint32(stack[i]))
			}
		}
		if t.in.shared == nil {
			t.call.mem = m.Memory()
			f.call(&t.call, stack)
			return
		}
		t.call.mem = t.in.shared
		if shows {
			t.inHost.Store(true)
			t.in.threads.beat(t, aCall)
		}
		f.call(&t.call, stack)
		t.inHost.Store(false)
	}
}

// wazeroFuncs are the functions of WASI that wazero implements for us.
var wazeroFuncs = []string{
	"args_get", "args_sizes_get", "environ_get", "environ_sizes_get",
	"proc_raise",
}

// checkImports reports the first import that the host does not have.
func checkImports(m wazero.CompiledModule, shared bool) error {
	for _, d := range m.ImportedFunctions() {
		mod, name, _ := d.Import()
		funcs, ok := hostModules[mod]
		if !ok || mod == wasmfile.FutexModule && !shared {
			return fmt.Errorf("it imports %s.%s, and the host has no module %q", visible(mod), visible(name), mod)
		}
		if mod == wasi_snapshot_preview1.ModuleName && slices.Contains(wazeroFuncs, name) {
			continue
		}
		i := slices.IndexFunc(funcs, func(f hostFunc) bool { return f.name == name })
		if i < 0 {
			return fmt.Errorf("it imports %s.%s, which the host does not have", visible(mod), visible(name))
		}
		var results []api.ValueType
		if funcs[i].result {
			results = types(i32)
		}
		if !slices.Equal(d.ParamTypes(), funcs[i].params) || !slices.Equal(d.ResultTypes(), results) {
			return fmt.Errorf("it imports %s.%s with the type %s, not %s", visible(mod), visible(name),
				typeString(d.ParamTypes(), d.ResultTypes()), typeString(funcs[i].params, results))
		}
	}
	for _, d := range m.ImportedMemories() {
		mod, name, _ := d.Import()
		if mod == wasmfile.MemoryModule && shared {
			continue
		}
		return fmt.Errorf("it imports the memory %s.%s; a module must have its own, or a shared one", visible(mod), visible(name))
	}
	return nil
}

// visible returns a name from a file as it can be shown: what would move a terminal's cursor,
// or begin a line, is replaced.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
