package wasmfile

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"waterproxy/transport/testmodules"
)

// TestEveryModuleStaysValid rewrites all test modules, whose instructions come
// from several compilers, and has wazero validate the result.
func TestEveryModuleStaysValid(t *testing.T) {
	ctx := context.Background()
	features := api.CoreFeaturesV2 | experimental.CoreFeaturesThreads
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer rt.Close(ctx)
	n, images := 0, 0
	for _, name := range testmodules.Names(t, "") {
		wasm := testmodules.Load(t, name)
		original, err := rt.CompileModule(ctx, wasm)
		if err != nil {
			continue // broken on purpose
		}
		rewritten, err := ShareMemory(wasm)
		if err == nil {
			rewritten, err = AddStop(rewritten)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := rt.CompileModule(ctx, rewritten)
		if err != nil {
			t.Errorf("%s is no longer valid: %v", name, err)
			continue
		}
		want := len(original.ExportedFunctions())
		if m.ExportedFunctions()[StartFunction] != nil {
			want++
		}
		if got := len(m.ExportedFunctions()); got != want {
			t.Errorf("%s exports %d functions, not %d", name, got, want)
		}
		bare, image, err := TakeData(rewritten)
		if err != nil {
			t.Errorf("%s: take data: %v", name, err)
			continue
		}
		if _, err := rt.CompileModule(ctx, bare); err != nil {
			t.Errorf("%s without its data is no longer valid: %v", name, err)
		}
		if len(image.Bytes) > 0 {
			images++
		}
		n++
	}
	if images < 30 {
		t.Errorf("only %d modules had data to take", images)
	}
	if n < 50 {
		t.Errorf("only %d modules were tried", n)
	}
}

// The two ways to run for ever, as WebAssembly text:
//
//	(func (export "spin") (loop (br 0)))
//	(func $f (export "recurse") (param i32) ;; 2^n calls, n deep
//	  (if (local.get 0) (then
//	    (call $f (i32.sub (local.get 0) (i32.const 1)))
//	    (call $f (i32.sub (local.get 0) (i32.const 1))))))
var endless = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x08\x02\x60\x00\x00\x60\x01\x7f\x00" +
	"\x03\x03\x02\x00\x01" +
	"\x07\x12\x02\x04spin\x00\x00\x07recurse\x00\x01" +
	"\x0a\x1f\x02" +
	"\x07\x00\x03\x40\x0c\x00\x0b\x0b" +
	"\x15\x00\x20\x00\x04\x40\x20\x00\x41\x01\x6b\x10\x01\x20\x00\x41\x01\x6b\x10\x01\x0b\x0b")

func TestStop(t *testing.T) {
	wasm, err := AddStop(endless)
	if err != nil {
		t.Fatal(err)
	}
	for f, args := range map[string][]uint64{"spin": nil, "recurse": {60}} {
		t.Run(f, func(t *testing.T) {
			ctx := context.Background()
			// The compiler only: the interpreter's code is Go, for which changing
			// a global from outside is a data race.
			rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
			defer rt.Close(ctx)
			m, err := rt.Instantiate(ctx, wasm)
			if err != nil {
				t.Fatal(err)
			}
			stop := m.ExportedGlobal(StopGlobal).(api.MutableGlobal)
			ended := make(chan error, 1)
			go func() {
				_, err := m.ExportedFunction(f).Call(ctx, args...)
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("ended by itself: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			stop.Set(1)
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), "unreachable") {
					t.Errorf("ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("did not stop")
			}
		})
	}
}

// FuzzAddStop: whatever the input, no panic; and what was a valid module stays
// one.
func FuzzAddStop(f *testing.F) {
	f.Add(endless)
	f.Add(endless[:20])
	f.Add(counting)
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if m, err := Measure(wasm); err != nil || m.Check(1) != nil {
			return // wazero believes counts
		}
		out, err := AddStop(wasm)
		if _, invalid := rt.CompileModule(ctx, wasm); invalid != nil {
			return
		}
		if err != nil {
			t.Fatalf("a valid module is refused: %v", err)
		}
		bare, _, err := TakeData(out)
		if err != nil {
			t.Fatalf("take data: %v", err)
		}
		for _, wasm := range [][]byte{out, bare} {
			if _, err := rt.CompileModule(ctx, wasm); err != nil {
				t.Fatalf("a valid module became invalid: %v", err)
			}
		}
	})
}

// TestYields spins on as many goroutines as there are processors, and then needs
// the garbage collector, which has to stop them all.
func TestYields(t *testing.T) {
	wasm, err := AddStop(endless)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer rt.Close(ctx)
	var stops []api.MutableGlobal
	var spinning sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		m, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, m.ExportedGlobal(StopGlobal).(api.MutableGlobal))
		spinning.Go(func() { _, _ = m.ExportedFunction("spin").Call(ctx) })
	}
	for range 10 {
		runtime.GC()
	}
	for _, s := range stops {
		s.Set(1)
	}
	spinning.Wait()
}
