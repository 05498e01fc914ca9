package wasmfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"waterproxy/transport/testmodules"
)

// TestMeasureKnown: every module that we know is far from the budget. With -v it shows
// the most of each measure.
func TestMeasureKnown(t *testing.T) {
	var most Measures
	of := map[string]string{}
	known := map[string][]byte{}
	for _, name := range testmodules.Names(t, "") {
		known[name] = testmodules.Load(t, name)
	}
	built, err := filepath.Glob("../../../modules/built/*.wasm")
	if err != nil || len(built) == 0 {
		t.Fatalf("make modules builds the modules that this test wants: %v", err)
	}
	for _, file := range built {
		if known[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for name, wasm := range known {
		m, err := Measure(wasm)
		if err != nil {
			if !strings.HasPrefix(name, "bad_") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err := m.Check(1); err != nil && !strings.HasPrefix(name, "evil_") {
			t.Errorf("%s: %v", name, err)
		}
		for _, measure := range measureNames {
			if n := *measure.of(&m); n > *measure.of(&most) {
				*measure.of(&most), of[measure.name] = n, name
			}
		}
	}
	for _, measure := range measureNames {
		n, budget := *measure.of(&most), *measure.of(&Budget)
		t.Logf("%d %s in %s; the budget is %d", n, measure.name, of[measure.name], budget)
		if n > 0 && budget < 3*n {
			t.Errorf("the budget of %s is %d, and %s has %d", measure.name, budget, of[measure.name], n)
		}
	}
}

// function makes a module of a function's body, which begins with the locals.
func function(body string) []byte {
	return wasmOf(section{typeSection, []byte("\x01\x60\x00\x00")}, section{functionSection, []byte("\x01\x00")}, section{codeSection, vectorOf(body)})
}

// TestMeasureHostile: what would take memory or time out of proportion is found, and says
// what it is.
func TestMeasureHostile(t *testing.T) {
	leb := func(n uint32) string { return string(appendU32(nil, n)) }
	const far = 1 << 28
	for name, test := range map[string]struct {
		wasm []byte
		what string // of the budget; "" for what is malformed
	}{
		"locals":            {function("\x01" + leb(far) + "\x7f\x0b"), "locals in one function"},
		"locals in groups":  {function(leb(100) + strings.Repeat(leb(1000)+"\x7f", 100) + "\x0b"), "locals in one function"},
		"4 Gi locals":       {function("\x02" + leb(1<<32-1) + "\x7f" + leb(1<<32-1) + "\x7f\x0b"), "locals in one function"},
		"nesting":           {function("\x00" + strings.Repeat("\x02\x40", 20_000) + strings.Repeat("\x0b", 20_001)), "blocks within blocks"},
		"br_table":          {function("\x00\x41\x00\x0e" + leb(1_000_000) + strings.Repeat("\x00", 1_000_001) + "\x0b"), "targets of one br_table"},
		"many br_tables":    {function("\x00" + strings.Repeat("\x41\x00\x0e"+leb(10_000)+strings.Repeat("\x00", 10_001), 11) + "\x0b"), "targets of br_tables in one function"},
		"table":             {wasmOf(section{4, []byte("\x01\x70\x00" + leb(1<<27))}), "entries of tables"},
		"tables":            {wasmOf(section{4, []byte("\x02\x70\x00" + leb(1<<32-1) + "\x70\x00" + leb(1<<32-1))}), "entries of tables"},
		"type":              {wasmOf(section{typeSection, []byte("\x01\x60" + leb(5000) + strings.Repeat("\x7f", 5000) + "\x00")}), "parameters and results of one type"},
		"types":             {wasmOf(section{typeSection, []byte(leb(20_000) + strings.Repeat("\x60\x00\x00", 20_000))}), "types"},
		"exports that lie":  {wasmOf(section{exportSection, []byte(leb(far))}), ""},
		"references":        {function("\x00\xd2\x00\x1a\x0b"), ""},
		"imports that lie":  {wasmOf(section{importSection, []byte(leb(far))}), ""},
		"imports and more":  {wasmOf(section{importSection, []byte("\x00more")}), ""},
		"types that lie":    {wasmOf(section{typeSection, []byte(leb(far) + "\x60\x00\x00")}), ""},
		"names that lie":    {wasmOf(section{customSection, []byte("\x04name\x01\x05" + leb(1<<32-1))}), ""},
		"elements that lie": {wasmOf(section{9, []byte("\x01\x00\x41\x00\x0b" + leb(far))}), ""},
		"data that lies":    {wasmOf(section{dataCountSection, []byte(leb(far))}), "data segments"},
		"code that lies":    {wasmOf(section{codeSection, []byte(leb(far))}), ""},
		"memory that lies":  {wasmOf(section{memorySection, []byte(leb(far) + "\x00\x01")}), ""},
		"section that lies": {[]byte("\x00asm\x01\x00\x00\x00\x01" + leb(far)), ""},
		"text":              {[]byte("text"), ""},
	} {
		m, err := Measure(test.wasm)
		if err == nil && test.what != "" {
			err = m.Check(1)
			over, ok := errors.AsType[*BudgetError](err)
			if !ok || over.What != test.what || over.N <= over.Most {
				t.Errorf("%s: %v, want one about %s", name, err, test.what)
			}
			if err := m.Check(1 << 20); err != nil && name != "4 Gi locals" && name != "locals" {
				t.Errorf("%s, with a large scale: %v", name, err)
			}
			continue
		}
		if err == nil || test.what != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMeasureCounts: no section has more than its bytes can be, whichever it is, and
// whatever stands behind the count.
func TestMeasureCounts(t *testing.T) {
	for id := byte(1); id < 13; id++ {
		for _, count := range []uint32{1_000_000, 1 << 28, 1<<32 - 1} {
			for _, more := range []string{"", "\x00", "\x00\x00\x00\x00", strings.Repeat("\x60", 100)} {
				if id == startSection && more == "" {
					continue // a number of a function, and not a count
				}
				wasm := wasmOf(section{id, append(appendU32(nil, count), more...)})
				if m, err := Measure(wasm); err == nil && m.Check(1) == nil {
					t.Errorf("section %d with %d entries and %q passes", id, count, more)
				}
			}
		}
	}
}

// FuzzMeasure: whatever passes the budget can be compiled, or is refused, without harm;
// and whatever is valid can be measured.
func FuzzMeasure(f *testing.F) {
	for _, wasm := range [][]byte{endless, counting, chunked, function("\x01\xff\xff\xff\x7f\x7f\x0b")} {
		f.Add(wasm)
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := Measure(wasm)
		if err != nil || m.Check(1) != nil {
			return
		}
		if c, err := rt.CompileModule(ctx, wasm); err == nil {
			_ = c.Close(ctx)
		}
	})
}
