package wasmfile

import "testing"

// TestBoundTables: a table grows no further than it may, whatever it declares.
func TestBoundTables(t *testing.T) {
	// (func (export "grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
	grow := func(table string) []byte {
		return wasmOf(
			section{typeSection, []byte("\x01\x60\x01\x7f\x01\x7f")},
			section{functionSection, []byte("\x01\x00")},
			section{tableSection, []byte(table)},
			section{exportSection, []byte("\x01\x04grow\x00\x00")},
			section{codeSection, vectorOf("\x00\xd0\x70\x20\x00\xfc\x0f\x00\x0b")},
		)
	}
	for table, most := range map[string]int32{
		"\x01\x70\x00\x05":                     maxTable, // at least 5
		"\x01\x70\x01\x05\xd0\x0f":             2000,     // 5 to 2000
		"\x01\x70\x01\x05\xff\xff\xff\xff\x0f": maxTable,
		"\x01\x70\x00\xc0\x84\x3d":             1_000_000, // more than it could grow to
	} {
		wasm, err := AddStop(grow(table))
		if err != nil {
			t.Fatal(err)
		}
		f := instantiate(t, wasm).ExportedFunction("grow")
		size := func(by int32) int32 {
			r, err := f.Call(t.Context(), uint64(uint32(by)))
			if err != nil {
				t.Fatal(err)
			}
			return int32(r[0])
		}
		now := size(0)
		if got := size(most - now); got != now {
			t.Errorf("% x: it does not grow from %d to %d", table, now, most)
		}
		if got := size(1); got != -1 || size(0) != most {
			t.Errorf("% x: it grows beyond %d", table, most)
		}
	}
	if _, err := AddStop(wasmOf(section{tableSection, []byte("\x02\x70\x00\x05")})); err == nil {
		t.Error("a table that is missing is no error")
	}
}
