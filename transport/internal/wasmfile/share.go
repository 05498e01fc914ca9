package wasmfile

import (
	"errors"
	"fmt"
	"slices"
)

// What ShareMemory makes a module import.
const (
	// MemoryModule has the memory, as MemoryName.
	MemoryModule = "waterproxy:memory"
	MemoryName   = "memory"
	// FutexModule has the functions below. Each takes the operands of the
	// instruction that it replaces, and then the offset from its address.
	FutexModule = "waterproxy:futex"
	Wait32      = "wait32" // (address, expected i32, timeout i64, offset) -> i32
	Wait64      = "wait64" // (address, expected i64, timeout i64, offset) -> i32
	Notify      = "notify" // (address, count, offset) -> i32
	// Checkpoint is what AddStop has the code of such a module call now and then.
	Checkpoint = "checkpoint" // () -> i32, of no meaning
)

// Opcodes and types that are written or looked for here.
const (
	opReturnCall = 0x12
	opRefFunc    = 0xd2
	opAtomic     = 0xfe
	opNotify     = 0x00
	opWait32     = 0x01
	opWait64     = 0x02
	typeI64      = 0x7e

	elementSection = 9
	limitsShared   = 2
	limitsMax      = 1
)

// futexFuncs are the imports that ShareMemory adds. Those that replace an
// instruction come first, in the order of the instructions' numbers.
var futexFuncs = []struct {
	name   string
	params []byte
}{
	opNotify: {Notify, []byte{typeI32, typeI32, typeI32}},
	opWait32: {Wait32, []byte{typeI32, typeI32, typeI64, typeI32}},
	opWait64: {Wait64, []byte{typeI32, typeI64, typeI64, typeI32}},

	{Checkpoint, nil},
}

// ShareMemory prepares a module with a shared memory for instances that share
// it, one for each thread; other modules are returned as they are. The memory,
// wherever it is imported from or if it is the module's own, becomes an import
// of MemoryModule. Instructions that wait or notify become calls of FutexModule,
// because the runtime's own wait cannot be ended from outside.
func ShareMemory(wasm []byte) ([]byte, error) {
	memory, err := ReadMemory(wasm)
	if err != nil || !memory.Shared {
		return wasm, err
	}
	if !memory.HasMax {
		return nil, errors.New("its shared memory declares no maximum")
	}
	sections, err := split(wasm)
	if err != nil {
		return nil, err
	}
	m := &module{sections: sections}
	functions := m.importMemory(memory)
	for _, f := range futexFuncs {
		t := m.add(typeSection, append(appendVec([]byte{typeFunc}, f.params), 1, typeI32))
		m.add(importSection, appendU32(append(importName(FutexModule, f.name), kindFunction), t))
	}
	m.renumber(functions)
	if m.err != nil {
		return nil, m.err
	}
	return join(m.sections, len(wasm)), nil
}

func importName(module, name string) []byte {
	return appendVec(appendVec(nil, []byte(module)), []byte(name))
}

// importMemory makes the memory an import of MemoryModule. It returns the number
// of functions that the module imports.
func (m *module) importMemory(memory Memory) (functions uint32) {
	limits := appendU32([]byte{limitsShared | limitsMax}, uint32(memory.Min/pageSize))
	item := append(importName(MemoryModule, MemoryName), kindMemory)
	item = append(item, appendU32(limits, uint32(memory.Max/pageSize))...)
	var imports []byte
	n := uint32(0)
	m.fail(eachImport(find(m.sections, importSection), func(i importItem) {
		switch {
		case i.module == MemoryModule || i.module == FutexModule:
			m.fail(fmt.Errorf("it imports from %s, which is the host's", i.module))
		case i.kind == kindMemory:
			return
		case i.kind == kindFunction:
			functions++
		}
		imports = append(imports, i.raw...)
		n++
	}))
	m.sections = put(m.sections, importSection, n+1, append(imports, item...))
	m.sections = slices.DeleteFunc(m.sections, func(s section) bool { return s.id == memorySection })
	return functions
}

// renumber makes room for futexFuncs behind the functions that the module
// imported before.
func (m *module) renumber(functions uint32) {
	for i, s := range m.sections {
		p := &patcher{reader: &reader{b: s.body}, first: functions}
		switch s.id {
		case globalSection:
			for range p.count() {
				p.skip(2)
				p.expression()
			}
		case exportSection:
			for range p.count() {
				p.bytes(p.u32())
				if p.byte() == kindFunction {
					p.index()
				} else {
					p.leb()
				}
			}
		case startSection:
			p.index()
		case elementSection:
			for range p.count() {
				p.element()
			}
		case codeSection:
			m.sections[i].body = m.renumberCode(s.body, functions)
			continue
		case customSection: // split leaves none but the names
			if p.names(); p.err != nil {
				p = &patcher{reader: &reader{b: appendVec(nil, []byte("name"))}} // as good as none
			}
		default:
			continue
		}
		if p.err != nil {
			m.fail(fmt.Errorf("section %d: %w", s.id, p.err))
			return
		}
		m.sections[i].body = p.done()
	}
}

func (m *module) renumberCode(code []byte, functions uint32) []byte {
	r := &reader{b: code}
	n := r.count()
	out := appendU32(make([]byte, 0, len(code)+len(code)/16), uint32(n))
	for range n {
		p := &patcher{reader: &reader{b: r.bytes(r.u32())}, first: functions}
		for range p.count() { // locals
			p.lebs(2)
		}
		for p.more() {
			p.instruction()
		}
		if err := errors.Join(r.err, p.err); err != nil {
			m.fail(fmt.Errorf("code section: %w", err))
			return code
		}
		out = appendVec(out, p.done())
	}
	if r.err != nil {
		m.fail(fmt.Errorf("code section: %w", r.err))
	}
	return out
}

// patcher copies what it reads, with other numbers for functions.
type patcher struct {
	*reader
	first  uint32 // functions from here on get new numbers
	out    []byte
	copied int // of b, which is in out
}

// replace puts something else in the place of what was read since start.
func (p *patcher) replace(start int, with ...byte) {
	if p.err == nil {
		p.out = append(append(p.out, p.b[p.copied:start]...), with...)
		p.copied = p.at
	}
}

func (p *patcher) done() []byte { return append(p.out, p.b[p.copied:]...) }

// renumbered returns a function's new number.
func (p *patcher) renumbered(i uint32) uint32 {
	if i >= p.first {
		i += uint32(len(futexFuncs))
	}
	return i
}

// index renumbers a function.
func (p *patcher) index() {
	start := p.at
	i := p.u32()
	p.replace(start, appendU32(nil, p.renumbered(i))...)
}

// instruction renumbers the function that an instruction names, and turns those
// which futexFuncs replace into calls. It returns the opcode.
func (p *patcher) instruction() byte {
	start := p.at
	op := p.byte()
	switch op {
	case opCall, opReturnCall, opRefFunc:
		p.index()
		return op
	case opAtomic:
		if n := p.u32(); p.err == nil && n <= opWait64 {
			p.u32() // alignment
			offset := p.u32()
			call := append(appendS32([]byte{opI32Const}, int32(offset)), opCall)
			p.replace(start, appendU32(call, p.first+n)...)
			return op
		}
	}
	if p.err == nil {
		p.at = start
		p.next()
	}
	return op
}

// expression is a constant one, up to its end.
func (p *patcher) expression() {
	for p.err == nil && p.instruction() != opEnd {
	}
}

// element is an element segment, of any of its eight forms.
func (p *patcher) element() {
	const passive, explicit, expressions = 1, 2, 4
	form := p.u32()
	if form&passive == 0 {
		if form&explicit != 0 {
			p.leb() // table
		}
		p.expression()
	}
	if form&(passive|explicit) != 0 {
		p.byte() // kind or type
	}
	for range p.count() {
		if form&expressions != 0 {
			p.expression()
		} else {
			p.index()
		}
	}
}

// names renumbers the name section, and drops the names of what is inside
// functions.
func (p *patcher) names() {
	const functionNames, localNames, labelNames = 1, 2, 3
	p.bytes(p.u32()) // its own
	for p.more() {
		start := p.at
		id := p.byte()
		q := &patcher{reader: &reader{b: p.bytes(p.u32())}, first: p.first}
		switch id {
		case functionNames:
			for range q.count() {
				q.index()
				q.bytes(q.u32())
			}
			if q.err != nil {
				p.fail(q.err)
			}
			p.replace(start, appendVec([]byte{id}, q.done())...)
		case localNames, labelNames:
			p.replace(start)
		}
	}
}

// NewMemory returns a module that has and exports a shared memory of so many
// bytes, and nothing else: what instances of a module that went through
// ShareMemory import.
func NewMemory(min, max uint64) []byte {
	limits := appendU32([]byte{1, limitsShared | limitsMax}, uint32(min/pageSize))
	return slices.Concat(header,
		appendVec([]byte{memorySection}, appendU32(limits, uint32(max/pageSize))),
		appendVec([]byte{exportSection}, append([]byte{1}, export(MemoryName, kindMemory, 0)...)))
}
