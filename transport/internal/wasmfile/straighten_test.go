package wasmfile

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// counting counts to 100, in the form that Go's compiler gives to
//
//	goto test; count: n++; test: if n < 100 { goto count }; return n
var counting = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x06\x01\x60\x01\x7f\x01\x7f" + // func(i32) i32
	"\x03\x02\x01\x00" +
	"\x07\x09\x01\x05count\x00\x00" +
	"\x0a\x39\x01\x37\x01\x01\x7f" +
	"\x03\x40\x02\x40\x02\x40\x02\x40\x20\x00\x0e\x02\x00\x01\x02\x0b" + // dispatch
	"\x41\x02\x21\x00\x0c\x02\x0b" + // goto test
	"\x20\x01\x41\x01\x6a\x21\x01\x0b" + // count
	"\x20\x01\x41\xe4\x00\x48\x04\x40\x41\x01\x21\x00\x0c\x01\x0b\x20\x01\x0f\x0b" + // test
	"\x00\x0b")

// TestCounting straightens code that is small enough to be read, and runs it from
// each of its entrances.
func TestCounting(t *testing.T) {
	wasm, err := AddStop(counting)
	if err != nil {
		t.Fatal(err)
	}
	if code, loops := straighten(counting[len(counting)-0x34:], 2, 0); len(loops) != 1 {
		t.Errorf("%d loops in % x", len(loops), code)
	}
	m, err := newWASI(t).Instantiate(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	for pc := range uint64(4) {
		if n, err := m.ExportedFunction("count").Call(t.Context(), pc); err != nil || n[0] != 100 {
			t.Errorf("count(%d) is %v, %v", pc, n, err)
		}
	}
}

// buildLoops compiles testdata/loops, for WASI or for this machine.
func buildLoops(t *testing.T, env ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "loops")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./testdata/loops")
	cmd.Env = append(os.Environ(), env...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return out
}

func loopsModule(t *testing.T) []byte {
	t.Helper()
	wasm, err := os.ReadFile(buildLoops(t, "GOOS=wasip1", "GOARCH=wasm"))
	if err != nil {
		t.Fatal(err)
	}
	rewritten, err := AddStop(wasm)
	if err != nil {
		t.Fatal(err)
	}
	return rewritten
}

// TestStraightened: rewritten code of Go's compiler does what Go's own code does.
func TestStraightened(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), buildLoops(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, want)
	}
	rt := newWASI(t)
	m, err := rt.CompileModule(t.Context(), loopsModule(t))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	config := wazero.NewModuleConfig().WithStdout(&got).WithStderr(&got)
	if _, err := rt.InstantiateModule(t.Context(), m, config); err != nil {
		t.Fatalf("%v\n%s", err, &got)
	}
	if got, want := sortedSums(got.String()), sortedSums(string(want)); got != want {
		t.Errorf("it printed\n%s\nand not\n%s", got, want)
	}
}

// sortedSums leaves the order out in which goroutines end.
func sortedSums(out string) string {
	if strings.Count(out, "\nsum ") != 8 {
		return out
	}
	lines := strings.Split(out, "\n")
	slices.Sort(lines[len(lines)-9 : len(lines)-1])
	return strings.Join(lines, "\n")
}

// TestStraightenedStops: loops that have become direct can still be stopped, and
// let the garbage collector work.
func TestStraightenedStops(t *testing.T) {
	rt := newWASI(t)
	m, err := rt.CompileModule(t.Context(), loopsModule(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, loop := range []string{"empty", "leaf", "nested"} {
		t.Run(loop, func(t *testing.T) {
			ctx := context.Background()
			config := wazero.NewModuleConfig().WithName(loop).WithArgs("loops", loop).WithStartFunctions()
			in, err := rt.InstantiateModule(ctx, m, config)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := in.ExportedFunction("_start").Call(ctx)
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("ended by itself: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
			runtime.GC()
			in.ExportedGlobal(StopGlobal).(api.MutableGlobal).Set(1)
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

func newWASI(t *testing.T) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { rt.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	return rt
}

// TestStraightens: the loops and jumps of Go's code are found at all.
func TestStraightens(t *testing.T) {
	wasm, err := os.ReadFile(buildLoops(t, "GOOS=wasip1", "GOARCH=wasm"))
	if err != nil {
		t.Fatal(err)
	}
	sections, err := split(wasm)
	if err != nil {
		t.Fatal(err)
	}
	n, bodies, err := vector(find(sections, codeSection))
	if err != nil {
		t.Fatal(err)
	}
	dispatches, loops, changed := 0, 0, 0
	r := &reader{b: bodies}
	for range n {
		f := &reader{b: r.bytes(r.u32())}
		f.locals()
		code := f.b[f.at:]
		if findDispatch(code) == nil {
			continue
		}
		dispatches++
		straight, own := straighten(code, 99, 9)
		loops += len(own)
		if !bytes.Equal(straight, code) {
			changed++
		}
		for _, at := range own {
			if straight[at] != opLoop {
				t.Fatalf("there is no loop at byte %d", at)
			}
		}
	}
	if dispatches < int(n)/2 || loops < int(n)/10 || changed < dispatches/3 {
		t.Errorf("of %d functions %d have a dispatch, %d changed, with %d loops", n, dispatches, changed, loops)
	}
	t.Logf("of %d functions %d have a dispatch, %d changed, with %d loops", n, dispatches, changed, loops)
}
