package wasmfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Section numbers (core specification, "Modules" in the binary format).
const (
	customSection   = 0
	typeSection     = 1
	importSection   = 2
	functionSection = 3
	memorySection   = 5
	globalSection   = 6
	exportSection   = 7
	startSection    = 8
	codeSection     = 10
)

// sectionOrder is the order in which sections stand in a file.
var sectionOrder = []byte{typeSection, importSection, functionSection, tableSection, memorySection, 13, globalSection, exportSection, startSection, 9, 12, codeSection, 11}

type section struct {
	id   byte
	body []byte
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// module is a module that is being rewritten. After an error it does not change.
type module struct {
	sections []section
	err      error
}

func (m *module) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// add appends an item to a section and returns its place there.
func (m *module) add(id byte, item []byte) uint32 {
	n, items, err := vector(find(m.sections, id))
	if err != nil {
		m.fail(fmt.Errorf("section %d: %w", id, err))
		return 0
	}
	m.sections = put(m.sections, id, n+1, slices.Concat(items, item))
	return n
}

// addExport exports something under a name that must be free.
func (m *module) addExport(name string, kind byte, index uint32) {
	if bytes.Contains(find(m.sections, exportSection), appendVec(nil, []byte(name))) {
		m.fail(fmt.Errorf("it exports %s, which is the host's", name))
	}
	m.add(exportSection, export(name, kind, index))
}

func export(name string, kind byte, index uint32) []byte {
	return appendU32(append(appendVec(nil, []byte(name)), kind), index)
}

// split returns a file's sections. Custom ones are left out: they describe the
// code as it was.
func split(wasm []byte) (sections []section, err error) {
	if !bytes.HasPrefix(wasm, header) {
		return nil, errors.New("it does not begin as a WebAssembly 1 module does")
	}
	r := &reader{b: wasm, at: len(header)}
	for r.more() {
		id := r.byte()
		body := r.bytes(r.u32())
		// The name section stays: it makes traps readable, and is by index.
		if id != customSection || bytes.HasPrefix(body, []byte("\x04name")) {
			sections = append(sections, section{id, body})
		}
	}
	return sections, r.err
}

func join(sections []section, sizeHint int) []byte {
	out := append(make([]byte, 0, sizeHint+sizeHint/16), header...)
	for _, s := range sections {
		out = appendVec(append(out, s.id), s.body)
	}
	return out
}

func find(sections []section, id byte) []byte {
	for _, s := range sections {
		if s.id == id {
			return s.body
		}
	}
	return nil
}

// put replaces a section, or adds it where it belongs.
func put(sections []section, id byte, count uint32, items []byte) []section {
	s := section{id, append(appendU32(nil, count), items...)}
	place := slices.Index(sectionOrder, id)
	for i, other := range sections {
		if other.id == id {
			sections[i] = s
			return sections
		}
		if other.id != customSection && slices.Index(sectionOrder, other.id) > place {
			return slices.Insert(sections, i, s)
		}
	}
	return append(sections, s)
}

// vector parts a section into its count and its items; no section has none.
func vector(body []byte) (n uint32, items []byte, err error) {
	if body == nil {
		return 0, nil, nil
	}
	r := &reader{b: body}
	n = r.u32()
	return n, body[min(r.at, len(body)):], r.err
}
