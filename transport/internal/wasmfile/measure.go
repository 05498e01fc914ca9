package wasmfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// Measures are what a module has much of, each of which costs memory or time when it is
// compiled. [Measures.Check] holds them against a budget.
type Measures struct {
	Bytes          uint64 // of the file
	Types          uint64
	TypeValues     uint64 // parameters and results of the type that has the most
	Imports        uint64
	Functions      uint64
	Tables         uint64
	TableEntries   uint64 // of all tables, at the start
	Globals        uint64
	Exports        uint64
	Elements       uint64 // entries of all element segments
	DataSegments   uint64
	Names          uint64 // of functions and locals
	FunctionBytes  uint64 // code of the largest function
	FunctionLocals uint64 // parameters not included
	Locals         uint64 // of all functions
	Nesting        uint64 // blocks within blocks
	BranchTargets  uint64 // of the br_table that has the most
	AllTargets     uint64 // of all br_tables of a function
}

// Budget is what modules may have, for a load scale of 1: several times what the largest
// module has that is known to us, in brackets. What Go's compiler makes of a large program
// has the most of most things; docs/modules.md has the table.
var Budget = Measures{
	Bytes:          64 << 20,
	Types:          10_000,
	TypeValues:     1_000,
	Imports:        1_000,
	Functions:      100_000,
	Tables:         16,
	TableEntries:   100_000,
	Globals:        10_000,
	Exports:        10_000,
	Elements:       200_000,
	DataSegments:   400_000,
	Names:          1_000_000,
	FunctionBytes:  4 << 20,
	FunctionLocals: 20_000,
	Locals:         2_000_000,
	Nesting:        10_000,
	BranchTargets:  50_000,
	AllTargets:     100_000,
}

// measureNames are the words of errors and documents.
var measureNames = []struct {
	name string
	of   func(*Measures) *uint64
}{
	{"bytes", func(m *Measures) *uint64 { return &m.Bytes }},
	{"types", func(m *Measures) *uint64 { return &m.Types }},
	{"parameters and results of one type", func(m *Measures) *uint64 { return &m.TypeValues }},
	{"imports", func(m *Measures) *uint64 { return &m.Imports }},
	{"functions", func(m *Measures) *uint64 { return &m.Functions }},
	{"tables", func(m *Measures) *uint64 { return &m.Tables }},
	{"entries of tables", func(m *Measures) *uint64 { return &m.TableEntries }},
	{"globals", func(m *Measures) *uint64 { return &m.Globals }},
	{"exports", func(m *Measures) *uint64 { return &m.Exports }},
	{"entries of element segments", func(m *Measures) *uint64 { return &m.Elements }},
	{"data segments", func(m *Measures) *uint64 { return &m.DataSegments }},
	{"names of functions and locals", func(m *Measures) *uint64 { return &m.Names }},
	{"bytes of code in one function", func(m *Measures) *uint64 { return &m.FunctionBytes }},
	{"locals in one function", func(m *Measures) *uint64 { return &m.FunctionLocals }},
	{"locals in all functions", func(m *Measures) *uint64 { return &m.Locals }},
	{"blocks within blocks", func(m *Measures) *uint64 { return &m.Nesting }},
	{"targets of one br_table", func(m *Measures) *uint64 { return &m.BranchTargets }},
	{"targets of br_tables in one function", func(m *Measures) *uint64 { return &m.AllTargets }},
}

// Each calls f with each measure and its name.
func (m Measures) Each(f func(name string, n uint64)) {
	for _, measure := range measureNames {
		f(measure.name, *measure.of(&m))
	}
}

// BudgetError is that a module has more of something than it may.
type BudgetError struct {
	What    string
	N, Most uint64
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("it has %d %s, and may have %d; its operator can raise that (load-scale)", e.N, e.What, e.Most)
}

// Check returns a [*BudgetError] if one of the measures is more than scale times what the
// Budget has. scale is at least 1.
func (m Measures) Check(scale int) error {
	for _, measure := range measureNames {
		if n, most := *measure.of(&m), *measure.of(&Budget)*uint64(max(scale, 1)); n > most {
			return &BudgetError{measure.name, n, most}
		}
	}
	return nil
}

// Measure measures a module without making anything of it: it takes no more memory than
// the file has, and time in proportion to that. It finds what is malformed as far as
// others would trust it: every count is of things that are there.
func Measure(wasm []byte) (m Measures, err error) {
	if !bytes.HasPrefix(wasm, header) {
		return m, fmt.Errorf("it does not begin as a WebAssembly 1 module does")
	}
	m.Bytes = uint64(len(wasm))
	r := &reader{b: wasm, at: len(header)}
	for r.more() {
		id := r.byte()
		body := &reader{b: r.bytes(r.u32())}
		if r.err != nil {
			break
		}
		if measure := measured[id]; measure != nil {
			measure(&m, body)
			if body.err == nil && body.more() {
				body.fail(fmt.Errorf("%d bytes too many", len(body.b)-body.at))
			}
		}
		if body.err != nil {
			return m, fmt.Errorf("section %d: %w", id, body.err)
		}
	}
	if r.err != nil {
		return m, r.err
	}
	return m, nil
}

// measured has what measures each section, from its beginning to its end.
var measured = map[byte]func(*Measures, *reader){
	customSection:   measureCustom,
	typeSection:     measureTypes,
	importSection:   measureImports,
	functionSection: func(m *Measures, r *reader) { m.Functions += r.items(r.leb) },
	tableSection:    measureTables,
	memorySection:   func(_ *Measures, r *reader) { r.items(r.limits) },
	globalSection:   func(m *Measures, r *reader) { m.Globals += r.items(func() { r.skip(2); r.constant() }) },
	exportSection: func(m *Measures, r *reader) {
		m.Exports += r.items(func() { r.bytes(r.u32()); r.skip(1); r.leb() })
	},
	startSection: func(_ *Measures, r *reader) { r.leb() },
	9:            measureElements,
	codeSection:  measureCode,
	dataSection:  measureData,
	// The count of data segments is of no more than the data section has.
	dataCountSection: func(m *Measures, r *reader) { m.DataSegments = max(m.DataSegments, uint64(r.u32())) },
}

// items reads a vector, of which each item has at least one byte.
func (r *reader) items(item func()) uint64 {
	n := r.count()
	for i := 0; i < n && r.err == nil; i++ {
		item()
	}
	return uint64(n)
}

// constant skips an expression.
func (r *reader) constant() {
	for r.err == nil {
		if r.at < len(r.b) && r.b[r.at] == opEnd {
			r.at++
			return
		}
		r.next()
	}
}

func (r *reader) values() uint64 {
	n := r.u32()
	r.bytes(n)
	return uint64(n)
}

func measureTypes(m *Measures, r *reader) {
	m.Types += r.items(func() {
		if r.byte() != typeFunc {
			r.fail(fmt.Errorf("a type that is none of a function"))
			return
		}
		m.TypeValues = max(m.TypeValues, r.values()+r.values())
	})
}

func measureImports(m *Measures, r *reader) {
	n := 0
	if err := eachImport(r.b, func(importItem) { n++ }); err != nil {
		r.fail(err)
		return
	}
	m.Imports += uint64(n)
	r.at = len(r.b) // eachImport has been through it
}

func measureTables(m *Measures, r *reader) {
	m.Tables += r.items(func() {
		r.byte()
		flags := r.byte()
		m.TableEntries = saturated(m.TableEntries, uint64(r.u32()))
		if flags&1 != 0 {
			r.leb()
		}
	})
}

// saturated adds without an overflow.
func saturated(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// measureElements goes through element segments (core specification, "Element Section").
func measureElements(m *Measures, r *reader) {
	r.items(func() {
		flags := r.u32()
		if flags > 7 {
			r.fail(fmt.Errorf("an element segment of the kind %d", flags))
			return
		}
		if flags&1 == 0 { // active
			if flags&2 != 0 {
				r.leb()
			}
			r.constant()
		}
		if flags&3 != 0 {
			r.byte() // the kind or type of its elements
		}
		item := r.leb
		if flags&4 != 0 {
			item = r.constant
		}
		m.Elements += r.items(item)
	})
}

func measureData(m *Measures, r *reader) {
	n := r.items(func() {
		flags := r.u32()
		if flags > 2 {
			r.fail(fmt.Errorf("a data segment of the kind %d", flags))
			return
		}
		if flags == 2 {
			r.leb()
		}
		if flags != 1 {
			r.constant()
		}
		r.bytes(r.u32())
	})
	m.DataSegments = max(m.DataSegments, n)
}

func measureCode(m *Measures, r *reader) {
	r.items(func() {
		body := &reader{b: r.bytes(r.u32())}
		m.measureFunction(body)
		if body.err != nil && r.err == nil {
			r.err = body.err
		}
	})
}

func (m *Measures) measureFunction(r *reader) {
	locals := uint64(0)
	r.items(func() {
		locals += uint64(r.u32())
		r.leb()
	})
	m.FunctionLocals = max(m.FunctionLocals, locals)
	m.Locals = saturated(m.Locals, locals)
	m.FunctionBytes = max(m.FunctionBytes, uint64(len(r.b)))
	depth, targets := uint64(0), uint64(0)
	for r.more() {
		switch r.b[r.at] {
		case opBlock, opLoop, opIf, opTry, opTryTable:
			depth++
			m.Nesting = max(m.Nesting, depth)
		case opEnd, opDelegate:
			if depth > 0 {
				depth--
			}
		case opBrTable:
			n := (&reader{b: r.b, at: r.at + 1}).count()
			m.BranchTargets = max(m.BranchTargets, uint64(n))
			targets += uint64(n)
			m.AllTargets = max(m.AllTargets, targets)
		case opRefFunc:
			r.fail(errRefFunc)
			return
		}
		r.next()
	}
}

// errRefFunc: wazero makes an object for each time that the instruction is run, and keeps it
// as long as the instance. No compiler that is known to us writes it; tables have references
// of their own.
var errRefFunc = errors.New("its code makes references to functions (ref.func), whose memory the engine does not give back")

// measureCustom goes through the names of functions and locals, since they are read;
// nothing else in custom sections is.
func measureCustom(m *Measures, r *reader) {
	if string(r.bytes(r.u32())) != "name" {
		r.at = len(r.b)
		return
	}
	for r.more() {
		kind := r.byte()
		sub := &reader{b: r.bytes(r.u32())}
		name := func() { sub.leb(); sub.bytes(sub.u32()) }
		switch kind {
		case 1:
			m.Names += sub.items(name)
		case 2:
			m.Names += sub.items(func() { sub.leb(); m.Names += sub.items(name) })
		}
		if sub.err != nil && r.err == nil {
			r.err = sub.err
		}
	}
}
