package wasmfile

import (
	"context"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"waterproxy/transport/testmodules"
)

// Loops that can run in chunks, as WebAssembly text:
//
//	(func (export "table") (param i32) (result i64) (local i64)
//	  (block $out (loop $turn
//	    (local.set 1 (i64.add (i64.mul (local.get 1) (i64.const 3)) (i64.const 1)))
//	    (block (br_table $out $turn (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
//	  (local.get 1))
//	(func (export "result") (param i32) (result i32)
//	  (loop (result i32)
//	    (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))
//	    (i32.const 7)))
//	(func (export "nested") (param i32) (result i32) (local i32 i32)
//	  (loop $outer
//	    (local.set 1 (i32.const 10000))
//	    (loop $inner
//	      (local.set 2 (i32.add (local.get 2) (i32.const 1)))
//	      (br_if $inner (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))
//	      (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))
//	      (return (local.get 2))))
//	  (unreachable))
var chunked = wasmOf(
	section{typeSection, []byte("\x02\x60\x01\x7f\x01\x7e\x60\x01\x7f\x01\x7f")},
	section{functionSection, []byte("\x03\x00\x01\x01")},
	section{exportSection, []byte("\x03\x05table\x00\x00\x06result\x00\x01\x06nested\x00\x02")},
	section{codeSection, vectorOf(
		"\x01\x01\x7e\x02\x40\x03\x40\x20\x01\x42\x03\x7e\x42\x01\x7c\x21\x01\x02\x40\x20\x00\x41\x01\x6b\x22\x00\x0e\x01\x02\x01\x0b\x0b\x0b\x20\x01\x0b",
		"\x00\x03\x7f\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x41\x07\x0b\x0b",
		"\x01\x02\x7f\x03\x40\x41\x90\xce\x00\x21\x01\x03\x40\x20\x02\x41\x01\x6a\x21\x02\x20\x01\x41\x01\x6b\x22\x01\x0d\x00\x20\x00\x41\x01\x6b\x22\x00\x0d\x01\x20\x02\x0f\x0b\x0b\x00\x0b",
	)},
)

func wasmOf(sections ...section) []byte { return join(sections, 0) }

func vectorOf(items ...string) []byte {
	b := appendU32(nil, uint32(len(items)))
	for _, item := range items {
		b = appendVec(b, []byte(item))
	}
	return b
}

// TestChunks: loops that run in chunks compute what they did, and go through checkpoints.
func TestChunks(t *testing.T) {
	wasm, err := AddStop(chunked)
	if err != nil {
		t.Fatal(err)
	}
	for function, turns := range map[string]uint64{"table": 100_000, "result": 100_000, "nested": 20} {
		var results [2]uint64
		for i, wasm := range [][]byte{chunked, wasm} {
			m := instantiate(t, wasm)
			r, err := m.ExportedFunction(function).Call(t.Context(), turns)
			if err != nil {
				t.Fatalf("%s: %v", function, err)
			}
			results[i] = r[0]
		}
		if results[0] != results[1] {
			t.Errorf("%s returns %d, and before %d", function, results[1], results[0])
		}
		m := instantiate(t, wasm)
		m.ExportedGlobal(StopGlobal).(api.MutableGlobal).Set(1)
		if r, err := m.ExportedFunction(function).Call(t.Context(), turns); err == nil {
			t.Errorf("%s does not stop, and returns %d", function, r)
		}
	}
	n := 0
	for _, s := range must(split(chunked)) {
		if s.id != codeSection {
			continue
		}
		r := &reader{b: s.body}
		for range r.count() {
			f := &reader{b: r.bytes(r.u32())}
			f.locals()
			n += len(chunkables(f.b[f.at:], nil))
		}
	}
	if n != 3 {
		t.Errorf("%d loops run in chunks, want 3", n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// BenchmarkStop runs loops of C as they are, and with the checks that AddStop adds.
func BenchmarkStop(b *testing.B) {
	original := testmodules.Load(b, "probe_loops")
	rewritten, err := AddStop(original)
	if err != nil {
		b.Fatal(err)
	}
	for _, function := range []string{"sum", "exclusive_or", "table", "shift", "fibonacci", "leaves", "words", "search"} {
		for name, wasm := range map[string][]byte{"without": original, "with": rewritten} {
			b.Run(fmt.Sprintf("%s/%s", function, name), func(b *testing.B) {
				f := instantiate(b, wasm).ExportedFunction(function)
				for b.Loop() {
					if _, err := f.Call(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func instantiate(t testing.TB, wasm []byte) api.Module {
	t.Helper()
	// The compiler, whose code other goroutines can stop; see TestStop.
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { _ = rt.Close(context.Background()) }) // the test's context has ended
	m, err := rt.Instantiate(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
