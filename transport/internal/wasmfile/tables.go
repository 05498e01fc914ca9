package wasmfile

import (
	"errors"
	"fmt"
)

const (
	tableSection = 4
	// maxTable is how many entries a table may grow to: nothing else bounds the host's
	// memory that it takes, some bytes for each. A module may declare as many.
	maxTable = 100_000
)

// Tables is what an instance has of a module besides its memory.
type Tables struct {
	Entries  uint64 // of all tables, once each is as large as it may become
	Globals  uint64
	Elements uint64 // segments, and their entries
	Segments uint64 // of data
}

// ReadTables returns that of a module, whose tables will be bounded.
func ReadTables(wasm []byte) (t Tables, err error) {
	sections, err := split(wasm)
	if err != nil {
		return t, err
	}
	n, tables, err := vector(find(sections, tableSection))
	if err != nil {
		return t, fmt.Errorf("table section: %w", err)
	}
	r := &reader{b: tables}
	for range n {
		_, most := r.table()
		t.Entries += uint64(most)
	}
	globals, _, err := vector(find(sections, globalSection))
	t.Globals = uint64(globals)
	var measured Measures
	elements := &reader{b: find(sections, elementSection)}
	if elements.more() {
		measureElements(&measured, elements)
	}
	segments, _, segmentsErr := vector(find(sections, dataSection))
	inElements, _, elementsErr := vector(find(sections, elementSection))
	t.Elements, t.Segments = measured.Elements+uint64(inElements), uint64(segments)
	return t, errors.Join(err, segmentsErr, elementsErr, elements.err, r.err)
}

// table reads a table's type, and returns it with the maximum that it gets.
func (r *reader) table() (bounded []byte, most uint32) {
	kind, flags, least := r.byte(), r.byte(), r.u32()
	most = maxTable
	if flags&limitsMax != 0 {
		most = min(most, r.u32())
	}
	most = max(most, least)
	return appendU32(appendU32([]byte{kind, limitsMax}, least), most), most
}

// boundTables gives each table a maximum.
func (m *module) boundTables() {
	n, tables, err := vector(find(m.sections, tableSection))
	if err != nil {
		m.fail(fmt.Errorf("table section: %w", err))
		return
	}
	var out []byte
	r := &reader{b: tables}
	for range n {
		bounded, _ := r.table()
		out = append(out, bounded...)
	}
	switch {
	case r.err != nil || r.more():
		m.fail(fmt.Errorf("table section: %w", errShort))
	case n > 0:
		m.sections = put(m.sections, tableSection, n, out)
	}
}
