package wasmfile

// How long code runs is judged by its length. Between two checkpoints checkEvery units go by,
// so that the slowest code of a unit, a chain of divisions, lets some tens of milliseconds
// pass.
const (
	// unitCode is the code of a unit, in bytes.
	unitCode = 4096
	// callCode is what an instruction that calls counts for: a function that has no check of
	// its own may be called.
	callCode = 256
	// leafCode is how long the code of a function may be, in bytes, that calls none and has
	// no check.
	leafCode = 512
	// bulkShift is how much of a bulk instruction's length is a unit: 4 KiB of memory.
	bulkShift = 12
)

// weight returns what so much code with so many calls counts for, in units.
func weight(length, calls int) int32 { return int32(1 + (length+callCode*calls)/unitCode) }

// weights are those of a function and of the loops in it, by the places of their opcodes.
type weights struct {
	loops map[int]int32
	all   int32
}

// weigh weighs a function's code. A loop counts for all that is in it, whatever of that a
// turn runs.
func weigh(code []byte) (w weights) {
	type block struct{ start, calls int }
	var open []block
	calls := 0
	w.loops = map[int]int32{}
	r := &reader{b: code}
	for r.more() {
		start := r.at
		op := code[start]
		in := r.next()
		switch {
		case in.call:
			calls++
		case op == opBlock, op == opLoop, op == opIf, op == opTry, op == opTryTable:
			open = append(open, block{start, calls})
		case (op == opEnd || op == opDelegate) && len(open) > 0:
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if code[last.start] == opLoop {
				w.loops[last.start] = weight(start-last.start, calls-last.calls)
			}
		}
	}
	w.all = weight(len(code), calls)
	return w
}
