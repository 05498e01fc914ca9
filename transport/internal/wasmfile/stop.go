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
	// runs at instantiation, since the switch is out of reach until it has returned.
	StartFunction = "waterproxy:start"
)

// checkEvery is how many units go by before the code lets Go look after other things: turns
// of loops with little work, or more of what weighs more. A checkpoint costs about as much as
// a few hundred such turns.
const checkEvery = 4096

// Types that are written here.
const (
	typeVoid = 0x40
	typeI32  = 0x7f
	typeFunc = 0x60
	mutable  = 1
)

// AddStop returns the module such that its code can be stopped wherever it is,
// and never keeps Go's scheduler and garbage collector waiting for long, which
// cannot interrupt compiled WebAssembly. Every loop, and every
// function that calls others or is long, counts down by what its code weighs, as does every
// bulk instruction by its length, and after checkEvery units goes
// through a checkpoint: a call that wazero handles in Go (Checkpoint of a module
// that went through ShareMemory, memory.grow by nothing in others), after which
// the code traps if the exported global StopGlobal has been set. Innermost loops run in
// chunks, which count as many turns. wazero's own way, leaving the compiled code at every
// loop, makes code several times slower. The code of Go's compiler is straightened on the
// way.
func AddStop(wasm []byte) ([]byte, error) {
	sections, err := split(wasm)
	if err != nil {
		return nil, err
	}
	m := &module{sections: sections}
	imports := map[byte]uint32{}                    // by kind
	pause := []byte{opI32Const, 0, opMemoryGrow, 0} // what a checkpoint does
	err = eachImport(find(sections, importSection), func(i importItem) {
		if i.kind == kindFunction && i.module == FutexModule && i.name == Checkpoint {
			pause = appendU32([]byte{opCall}, imports[kindFunction])
		}
		imports[i.kind]++
	})
	if err != nil {
		return nil, err
	}
	functions, globals := imports[kindFunction], imports[kindGlobal]
	stop := globals + m.add(globalSection, []byte{typeI32, mutable, opI32Const, 0, opEnd})
	count := globals + m.add(globalSection, append(appendS32([]byte{typeI32, mutable, opI32Const}, checkEvery), opEnd))
	void := m.add(typeSection, []byte{typeFunc, 0, 0})
	checkpoint := functions + m.add(functionSection, appendU32(nil, void))
	if memories, _, err := vector(find(sections, memorySection)); err != nil {
		m.fail(fmt.Errorf("memory section: %w", err))
	} else if memories == 0 && imports[kindMemory] == 0 {
		m.add(memorySection, []byte{1, 0, 0}) // memory.grow needs one, if only of no size
	}
	m.addExport(StopGlobal, kindGlobal, stop)
	if start := find(m.sections, startSection); start != nil {
		r := &reader{b: start}
		m.addExport(StartFunction, kindFunction, r.u32())
		m.fail(r.err)
		m.sections = slices.DeleteFunc(m.sections, func(s section) bool { return s.id == startSection })
	}
	m.boundTables()
	m.instrument(count, checkpoint)
	m.add(codeSection, appendVec(nil, checkpointBody(stop, count, pause)))
	if m.err != nil {
		return nil, m.err
	}
	return join(m.sections, len(wasm)), nil
}

// checkpointBody is the function through which the code goes now and then. It runs
// the instructions of pause, which leave one value.
func checkpointBody(stop, count uint32, pause []byte) []byte {
	b := []byte{0} // no locals
	b = append(appendS32(append(b, opI32Const), checkEvery), opGlobalSet)
	b = appendU32(b, count)
	b = append(append(b, pause...), opDrop, opGlobalGet)
	b = appendU32(b, stop)
	return append(b, opIf, typeVoid, opUnreachable, opEnd, opEnd)
}

// instrument puts a check at the start of each loop, and of each function that
// calls others or is long: between two of them, no code runs for long.
func (m *module) instrument(count, checkpoint uint32) {
	code := find(m.sections, codeSection)
	if code == nil {
		return
	}
	n, bodies, err := vector(code)
	if err != nil {
		m.fail(fmt.Errorf("code section: %w", err))
		return
	}
	countDown := func(by int32) []byte {
		b := appendS32(append(appendU32([]byte{opGlobalGet}, count), opI32Const), by)
		return appendU32(append(b, opI32Sub, opGlobalSet), count)
	}
	checkFor := func(cost int32) []byte {
		b := append(appendU32(append(countDown(cost), opGlobalGet), count), opI32Const, 0, opI32LtS)
		return append(appendU32(append(b, opIf, typeVoid, opCall), checkpoint), opEnd)
	}
	c := checks{of: checkFor, chunk: checkFor(chunkCost), afterBulk: func(length uint32) []byte {
		b := appendU32(append(appendU32([]byte{opGlobalGet}, count), opLocalGet), length)
		b = append(b, opI32Const, bulkShift, opI32ShrU, opI32Sub, opGlobalSet)
		return append(appendU32(b, count), checkFor(1)...)
	}}

	goType, parameters := m.goType(), m.parameters()
	types := &reader{b: find(m.sections, functionSection)}
	types.count()
	out := make([]byte, 0, len(bodies)+len(bodies)/4)
	r := &reader{b: bodies}
	for i := range n {
		f := &reader{b: r.bytes(r.u32())}
		locals := f.locals()
		code := f.b[f.at:]
		var own []int
		t := types.u32()
		if goType[t] {
			if code, own = straighten(code, 1+locals.n, count); own != nil {
				locals.add(typeI32)
			}
		}
		body, more, err := c.put(code, own, parameters[t]+locals.n)
		for range more {
			locals.add(typeI32)
		}
		if err = errors.Join(r.err, f.err, err); err != nil {
			m.fail(fmt.Errorf("code section: function %d: %w", i, err))
			return
		}
		out = appendU32(out, uint32(len(locals.b)+len(body)))
		out = append(append(out, locals.b...), body...)
	}
	m.sections = put(m.sections, codeSection, n, out)
}

// checks are pieces of code that count.
type checks struct {
	of        func(cost int32) []byte    // takes a cost, and looks at what is left
	chunk     []byte                     // is that of a chunk
	afterBulk func(length uint32) []byte // is that of a bulk instruction, whose length is in a local
}

// put puts a check into a function's code at the start of each loop, except of
// those that see to it themselves, behind each bulk instruction, and at its own start
// if it calls others or is long. It returns how many locals it has used, of which the first
// has the number free: for loops that run in chunks, and for the length of bulk instructions.
func (c checks) put(code []byte, own []int, free uint32) (out []byte, locals int, err error) {
	out = make([]byte, 0, len(code)+len(code)/4)
	chunkable := chunkables(code, own)
	turns, length, bulk := free, free, false
	if len(chunkable) > 0 {
		length, locals = free+1, 1
	}
	w := weigh(code)
	calls, copied := len(code) > leafCode, 0
	f := &reader{b: code}
	for f.more() {
		start := f.at
		in := f.next()
		if l, ok := chunkable[start]; ok {
			out = appendChunks(append(out, code[copied:start]...), code, l, turns, c.of(1), c.chunk)
			copied = l.end + 1
			f.at = copied
			continue
		}
		switch {
		case in.loop && !slices.Contains(own, start):
			out = append(append(out, code[copied:f.at]...), c.of(w.loops[start])...)
			copied = f.at
		case in.bulk: // its length is on top of the stack
			out = appendU32(append(append(out, code[copied:start]...), opLocalTee), length)
			out = append(append(out, code[start:f.at]...), c.afterBulk(length)...)
			copied, bulk = f.at, true
		case in.call:
			calls = true
		}
	}
	out = append(out, code[copied:]...)
	if calls {
		out = slices.Insert(out, 0, c.of(w.all)...)
	}
	if bulk {
		locals++
	}
	return out, locals, f.err
}

// locals is what a function's body begins with: groups of locals of one type.
type locals struct {
	b      []byte
	groups uint32
	n      uint32 // locals in all
}

func (r *reader) locals() (l locals) {
	start := r.at
	l.groups = uint32(r.count())
	for range l.groups {
		l.n += r.u32()
		r.leb() // the type
	}
	l.b = r.b[start:r.at]
	return l
}

// add adds one more local.
func (l *locals) add(kind byte) {
	groups := &reader{b: l.b}
	groups.u32()
	l.b = append(append(appendU32(nil, l.groups+1), l.b[groups.at:]...), 1, kind)
	l.groups++
	l.n++
}

// parameters returns how many parameters each type has.
func (m *module) parameters() map[uint32]uint32 {
	n := map[uint32]uint32{}
	r := &reader{b: find(m.sections, typeSection)}
	for i := range uint32(r.count()) {
		if !r.op(typeFunc) {
			break // no function has this type, nor one of those that follow
		}
		n[i] = r.u32()
		r.skip(int(n[i]))
		r.skip(int(r.u32()))
	}
	return n
}

// goType reports of each type whether it is that of all functions in Go's code:
// they take and return an i32.
func (m *module) goType() map[uint32]bool {
	is := map[uint32]bool{}
	r := &reader{b: find(m.sections, typeSection)}
	for i := range uint32(r.count()) {
		if !r.op(typeFunc) {
			break // no such type, nor what follows, is Go's
		}
		params := r.bytes(r.u32())
		results := r.bytes(r.u32())
		is[i] = bytes.Equal(params, []byte{typeI32}) && bytes.Equal(results, []byte{typeI32})
	}
	return is
}
