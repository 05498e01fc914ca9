package wasmfile

import "fmt"

// Opcodes that are looked for or written.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opTry         = 0x06
	opCatch       = 0x07
	opThrow       = 0x08
	opRethrow     = 0x09
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opReturn      = 0x0f
	opCall        = 0x10
	opDelegate    = 0x18
	opCatchAll    = 0x19
	opDrop        = 0x1a
	opTryTable    = 0x1f
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI32Eqz      = 0x45
	opI32LtS      = 0x48
	opI32Sub      = 0x6b
	opI32ShrU     = 0x76
)

// instruction is what a walk over a function's code needs to know of one.
type instruction struct {
	loop    bool // begins a loop
	call    bool // calls a function
	segment bool // names a data segment
	bulk    bool // works on any amount of memory
}

// next skips one instruction with its immediates (WebAssembly core
// specification, "Instructions" in the binary format, with the SIMD, threads,
// tail call and exception handling proposals).
func (r *reader) next() (i instruction) {
	switch op := r.byte(); {
	case op == 0x03: // loop
		r.leb()
		i.loop = true
	case op == 0x02, op == 0x04, op == 0x06: // block, if, try
		r.leb()
	case op >= 0x10 && op <= 0x15: // call, call_indirect, return_call ..., call_ref
		r.leb()
		if op == 0x11 || op == 0x13 {
			r.leb()
		}
		i.call = true
	case op == 0x0e: // br_table
		r.lebs(r.count() + 1)
	case op == 0x1c: // select with types
		r.lebs(r.count())
	case op == 0x1f: // try_table
		r.tryTable()
	case op >= 0x07 && op <= 0x09, op == 0x0c, op == 0x0d, op == 0x18, // catch, throw, rethrow, br, br_if, delegate
		op >= 0x20 && op <= 0x26,                       // local, global and table access
		op == 0x3f, op == 0x40, op == 0x41, op == 0x42, // memory.size and grow, integer constants
		op == 0xd0, op == 0xd2: // ref.null, ref.func
		r.leb()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memarg()
	case op == 0x43:
		r.skip(4)
	case op == 0x44:
		r.skip(8)
	case op <= 0x01, op == 0x05, op == 0x0a, op == 0x0b, op == 0x0f, op == 0x19, op == 0x1a, op == 0x1b,
		op >= 0x45 && op <= 0xc4, op == 0xd1: // no immediates
	case op == 0xfc:
		i.bulk, i.segment = r.bulk()
	case op == 0xfd:
		r.simd()
	case op == 0xfe:
		r.atomic()
	default:
		r.fail(fmt.Errorf("unknown instruction 0x%02x", op))
	}
	return i
}

// count reads the length of a vector and refuses one that cannot be there.
func (r *reader) count() int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.at) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

func (r *reader) memarg() {
	const hasMemory = 1 << 6
	if r.u32()&hasMemory != 0 {
		r.leb()
	}
	r.leb()
}

func (r *reader) tryTable() {
	r.leb()
	for range r.count() {
		if kind := r.byte(); kind < 2 { // with a tag
			r.leb()
		}
		r.leb()
	}
}

// bulk skips what follows 0xfc: saturating conversions, memory and table
// operations. It reports whether it works on a range of memory or table, and
// whether it names a data segment.
func (r *reader) bulk() (ranged, segment bool) {
	op := r.u32()
	switch {
	case op <= 7:
	case op == 9, op == 11, op == 13, op >= 15 && op <= 17:
		r.leb()
	case op == 8, op == 10, op == 12, op == 14:
		r.lebs(2)
	default:
		r.fail(fmt.Errorf("unknown instruction 0xfc %d", op))
	}
	return op >= 8 && op != 9 && op != 13 && op != 16, op == 8 || op == 9
}

func (r *reader) simd() {
	switch op := r.u32(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.memarg()
	case op == 12, op == 13: // constant, shuffle
		r.skip(16)
	case op >= 21 && op <= 34: // lane access
		r.skip(1)
	case op >= 84 && op <= 91: // lane loads and stores
		r.memarg()
		r.skip(1)
	case op <= 0x113: // the rest, relaxed SIMD included
	default:
		r.fail(fmt.Errorf("unknown instruction 0xfd %d", op))
	}
}

func (r *reader) atomic() {
	switch op := r.u32(); {
	case op == 3: // fence
		r.skip(1)
	case op <= 2, op >= 0x10 && op <= 0x4e:
		r.memarg()
	default:
		r.fail(fmt.Errorf("unknown instruction 0xfe %d", op))
	}
}
