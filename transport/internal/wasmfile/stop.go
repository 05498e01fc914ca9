package wasmfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Names of the exports that AddStop adds.
const (
	// StopGlobal is the stop switch.
	StopGlobal = "waterproxy:stop"
	// StartFunction is the module's start function, if it has one. It no longer
	// runs by itself, since the switch is out of reach until it has returned.
	StartFunction = "waterproxy:start"
)

// Section numbers (core specification, "Modules" in the binary format).
const (
	customSection = 0
	importSection = 2
	globalSection = 6
	exportSection = 7
	startSection  = 8
	codeSection   = 10
)

// sectionOrder is the order in which sections stand in a file.
var sectionOrder = []byte{1, importSection, 3, 4, 5, 13, globalSection, exportSection, startSection, 9, 12, codeSection, 11}

type section struct {
	id   byte
	body []byte
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// AddStop returns the module with a switch that stops its code wherever it is:
// a mutable global i32, exported as StopGlobal, which every loop and every
// function that calls others looks at, and traps if it is not 0. One load and
// one branch cost next to nothing, while wazero's own way (leaving the compiled
// code at every loop) makes code several times slower.
func AddStop(wasm []byte) ([]byte, error) {
	sections, err := split(wasm)
	if err != nil {
		return nil, err
	}
	imported, err := importedGlobals(find(sections, importSection))
	if err != nil {
		return nil, fmt.Errorf("import section: %w", err)
	}
	own, globals, err := vector(find(sections, globalSection))
	if err != nil {
		return nil, fmt.Errorf("global section: %w", err)
	}
	index := imported + own
	const i32, mutable, i32Const, end = 0x7f, 1, 0x41, 0x0b
	sections = put(sections, globalSection, own+1, slices.Concat(globals, []byte{i32, mutable, i32Const, 0, end}))

	n, exports, err := vector(find(sections, exportSection))
	if err != nil {
		return nil, fmt.Errorf("export section: %w", err)
	}
	const exportFunction, exportGlobal = 0, 3
	for _, name := range []string{StopGlobal, StartFunction} {
		if bytes.Contains(exports, appendVec(nil, []byte(name))) {
			return nil, fmt.Errorf("it exports %s, which is the host's", name)
		}
	}
	exports = slices.Concat(exports, export(StopGlobal, exportGlobal, index))
	n++
	if start := find(sections, startSection); start != nil {
		r := &reader{b: start}
		exports = append(exports, export(StartFunction, exportFunction, r.u32())...)
		n++
		if r.err != nil {
			return nil, fmt.Errorf("start section: %w", r.err)
		}
		sections = slices.DeleteFunc(sections, func(s section) bool { return s.id == startSection })
	}
	sections = put(sections, exportSection, n, exports)

	if code := find(sections, codeSection); code != nil {
		n, bodies, err := vector(code)
		if err != nil {
			return nil, fmt.Errorf("code section: %w", err)
		}
		rewritten, err := addChecks(n, bodies, index)
		if err != nil {
			return nil, fmt.Errorf("code section: %w", err)
		}
		sections = put(sections, codeSection, n, rewritten)
	}
	return join(sections, len(wasm)), nil
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

func importedGlobals(body []byte) (globals uint32, err error) {
	if body == nil {
		return 0, nil
	}
	r := &reader{b: body}
	for range r.count() {
		r.bytes(r.u32()) // module
		r.bytes(r.u32()) // name
		switch kind := r.byte(); kind {
		case 0: // function
			r.leb()
		case 1: // table
			r.byte()
			r.limits()
		case 2: // memory
			r.limits()
		case 3: // global
			r.skip(2)
			globals++
		case 4: // tag
			r.byte()
			r.leb()
		default:
			r.fail(fmt.Errorf("unknown kind of import %d", kind))
		}
	}
	return globals, r.err
}

func (r *reader) limits() {
	flags := r.byte()
	r.leb()
	if flags&1 != 0 {
		r.leb()
	}
}

// addChecks returns the function bodies with a check at the start of each loop,
// and of each function that calls others: between them, no code can run for
// long without passing one.
func addChecks(n uint32, bodies []byte, global uint32) ([]byte, error) {
	const globalGet, ifThen, void, unreachable, end = 0x23, 0x04, 0x40, 0x00, 0x0b
	check := append(appendU32([]byte{globalGet}, global), ifThen, void, unreachable, end)
	out := make([]byte, 0, len(bodies)+len(bodies)/8)
	var body []byte
	r := &reader{b: bodies}
	for i := range n {
		f := &reader{b: r.bytes(r.u32())}
		if r.err != nil {
			return nil, r.err
		}
		for range f.count() { // locals
			f.lebs(2)
		}
		locals, calls, copied := f.at, false, f.at
		body = body[:0]
		for f.more() {
			in := f.next()
			calls = calls || in.call
			if in.loop && f.err == nil {
				body = append(append(body, f.b[copied:f.at]...), check...)
				copied = f.at
			}
		}
		if f.err != nil {
			return nil, fmt.Errorf("function %d: %w", i, f.err)
		}
		size := locals + len(body) + len(f.b) - copied
		if calls {
			size += len(check)
		}
		out = append(appendU32(out, uint32(size)), f.b[:locals]...)
		if calls {
			out = append(out, check...)
		}
		out = append(append(out, body...), f.b[copied:]...)
	}
	return out, nil
}
