package wasmfile

import (
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// renumbered has its functions named in every way that there is, as WebAssembly text:
//
//	(memory 1 2 shared)
//	(table 4 funcref)
//	(global $g funcref (ref.func $three))
//	(elem (i32.const 0) func $one $two)             ;; active, by number
//	(elem $passive funcref (ref.func $two))         ;; passive, by expression
//	(elem declare func $three)
//	(start $start)
//	(func $one (result i32) (i32.const 1))
//	(func $two (result i32) (i32.const 2))
//	(func $three (result i32) (i32.const 3))
//	(func $start
//	  (table.init $passive (i32.const 2) (i32.const 0) (i32.const 1))
//	  (table.set (i32.const 3) (global.get $g)))
//	(func (export "entry") (param i32) (result i32) ;; 100 and what is in the table
//	  (i32.add (i32.mul (call $one) (i32.const 100))
//	    (call_indirect (result i32) (local.get 0))))
//	(func (export "notify") (result i32)
//	  (memory.atomic.notify offset=8 (i32.const 4) (i32.const 7)))
//	(func (export "wait") (result i32)
//	  (memory.atomic.wait32 offset=4 (i32.const 4) (i32.const 5) (i64.const -1)))
var renumbered = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x0d\x03\x60\x00\x01\x7f\x60\x00\x00\x60\x01\x7f\x01\x7f" +
	"\x03\x08\x07\x00\x00\x00\x01\x02\x00\x00" +
	"\x04\x04\x01\x70\x00\x04" +
	"\x05\x04\x01\x03\x01\x02" +
	"\x06\x06\x01\x70\x00\xd2\x02\x0b" +
	"\x07\x19\x03\x05\x65\x6e\x74\x72\x79\x00\x04\x06\x6e\x6f\x74\x69\x66\x79\x00\x05" +
	"\x04\x77\x61\x69\x74\x00\x06" +
	"\x08\x01\x03" +
	"\x09\x10\x03\x00\x41\x00\x0b\x02\x00\x01\x01\x00\x01\x01\x03\x00\x01\x02" +
	"\x0a\x4a\x07\x04\x00\x41\x01\x0b\x04\x00\x41\x02\x0b\x04\x00\x41\x03\x0b\x12\x00" +
	"\x41\x02\x41\x00\x41\x01\xfc\x0c\x01\x00\x41\x03\x23\x00\x26\x00\x0b\x0e\x00\x10" +
	"\x00\x41\xe4\x00\x6c\x20\x00\x11\x00\x00\x6a\x0b\x0a\x00\x41\x04\x41\x07\xfe\x00" +
	"\x02\x08\x0b\x0c\x00\x41\x04\x41\x05\x42\x7f\xfe\x01\x02\x04\x0b")

// TestShareMemoryRenumbers: whoever names a function still means the same one.
func TestShareMemoryRenumbers(t *testing.T) {
	ctx := context.Background()
	features := api.CoreFeaturesV2 | experimental.CoreFeaturesThreads
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer rt.Close(ctx)
	wasm, err := ShareMemory(renumbered)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.NewHostModuleBuilder(FutexModule).
		NewFunctionBuilder().WithFunc(func(address, expected uint32, timeout int64, offset uint32) uint32 {
		if address != 4 || expected != 5 || timeout != -1 || offset != 4 {
			t.Errorf("wait32(%d, %d, %d, %d)", address, expected, timeout, offset)
		}
		return 61
	}).Export(Wait32).
		NewFunctionBuilder().WithFunc(func(uint32, uint64, int64, uint32) uint32 { return 62 }).Export(Wait64).
		NewFunctionBuilder().WithFunc(func(address, count, offset uint32) uint32 {
		if address != 4 || count != 7 || offset != 8 {
			t.Errorf("notify(%d, %d, %d)", address, count, offset)
		}
		return 63
	}).Export(Notify).
		NewFunctionBuilder().WithFunc(func() uint32 { return 0 }).Export(Checkpoint).
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.InstantiateWithConfig(ctx, NewMemory(1<<16, 2<<16), wazero.NewModuleConfig().WithName(MemoryModule)); err != nil {
		t.Fatal(err)
	}
	m, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint64{101, 102, 102, 103} {
		if got, err := m.ExportedFunction("entry").Call(ctx, uint64(i)); err != nil || got[0] != want {
			t.Errorf("entry(%d): %v, %v", i, got, err)
		}
	}
	for name, want := range map[string]uint64{"notify": 63, "wait": 61} {
		if got, err := m.ExportedFunction(name).Call(ctx); err != nil || got[0] != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestShareMemoryRefuses: what is the host's is not the module's.
func TestShareMemoryRefuses(t *testing.T) {
	for why, wasm := range map[string]string{
		"maximum":    "\x05\x03\x01\x02\x01",
		FutexModule:  "\x01\x04\x01\x60\x00\x00\x02\x16\x01\x10" + FutexModule + "\x01f\x00\x00" + "\x05\x04\x01\x03\x01\x02",
		MemoryModule: "\x02\x19\x01\x11" + MemoryModule + "\x01m\x02\x03\x01\x02",
	} {
		if _, err := ShareMemory([]byte("\x00asm\x01\x00\x00\x00" + wasm)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("the error says nothing of %s: %v", why, err)
		}
	}
}
