package wasmfile

// An innermost loop that calls nothing runs in chunks: turns that count down a local of
// the function, without a call in between, which would have the compiler keep the loop's
// variables in memory. A loop around it takes each chunk from the count of all loops, and
// has the check. Where a turn is short, several of them are written one after the other,
// and count as one.

// What a chunk is. A check's count stands for a turn of a loop with little work.
const (
	// chunkCode bounds what a chunk runs, in bytes of code: some microseconds.
	chunkCode = 16 << 10
	// maxTurns and minTurns bound its turns. It is not worth while for fewer.
	maxTurns = 4096
	minTurns = 8
	// shortCode is how long the code of a short turn is at most, and copies how many of
	// them count as one.
	shortCode = 96
	copies    = 4
	// chunkCost is what it takes from the count: a checkpoint follows 16 of them.
	chunkCost = checkEvery / 16
)

// chunkable is a loop that can run in chunks.
type chunkable struct {
	start, body, end int // of its opcode, of its code, and of the end instruction
	copies           int // of its code
}

// turns is how many make a chunk, those of all copies being one.
func (l chunkable) turns() int32 {
	return int32(min(chunkCode/max(l.copies*(l.end-l.body), 1), maxTurns))
}

// chunkables returns the loops of a function that can run in chunks, by their starts. own
// are loops that are left alone.
func chunkables(code []byte, own []int) map[int]chunkable {
	type block struct {
		chunkable
		fit bool // a loop that can, as far as has been read
	}
	var open []block
	var found map[int]chunkable
	unfit := func() {
		for i := range open {
			open[i].fit = false
		}
	}
	r := &reader{b: code}
	for r.more() {
		start := r.at
		op := code[start]
		in := r.next()
		switch {
		case in.loop:
			unfit()
			open = append(open, block{chunkable{start: start, body: r.at}, noParameters(code[start+1])})
		case op == opBlock, op == opIf:
			open = append(open, block{})
		case in.call, in.bulk, op == opMemoryGrow:
			unfit()
		case op == opTry, op == opTryTable, op == opDelegate:
			return nil // these nest in another way, and no compiler here takes them
		case op == opEnd && len(open) > 0: // the function's own end is the last
			last := open[len(open)-1]
			open = open[:len(open)-1]
			last.end, last.copies = start, 1
			if last.end-last.body <= shortCode && code[last.start+1] == typeVoid {
				last.copies = copies
			}
			if last.fit && last.turns() >= minTurns {
				if found == nil {
					found = map[int]chunkable{}
				}
				found[last.start] = last.chunkable
			}
		}
	}
	for _, start := range own {
		delete(found, start)
	}
	return found
}

// noParameters tells whether a block's type, which begins with b, has none: it is empty, or
// one value type, a negative number of one byte.
func noParameters(b byte) bool { return b >= 0x40 && b < 0x80 }

// appendChunks appends a loop that runs in chunks. turns is a local of the function; check
// takes one from the count, and charge chunkCost, and both look whether that is used up.
func appendChunks(out, code []byte, l chunkable, turns uint32, check, charge []byte) []byte {
	full := appendU32(append(appendS32([]byte{opI32Const}, l.turns()+1), opLocalSet), turns)
	head := code[l.start:l.body]
	out = append(append(out, check...), full...)
	around := uint32(1) // labels between the loop and what was around it
	if l.copies > 1 {
		out = append(out, opBlock, typeVoid)
		around++
	}
	out = append(out, head...)
	out = append(appendU32(append(out, opLocalGet), turns), opI32Eqz, opIf, typeVoid)
	out = append(append(append(out, charge...), full...), opEnd)
	out = append(out, head...)
	out = append(appendU32(append(out, opLocalGet), turns), opI32Const, 1, opI32Sub, opLocalTee)
	out = append(appendU32(out, turns), opI32Eqz, opBrIf, 1)
	for range l.copies - 1 { // the next turn is behind the block, the end behind all
		out = appendDeeper(append(out, opBlock, typeVoid), code[l.body:l.end], around+1)
		out = append(appendU32(append(out, opBr), around+1), opEnd)
	}
	out = append(appendDeeper(out, code[l.body:l.end], around), opEnd, opEnd)
	if l.copies > 1 {
		out = append(out, opEnd)
	}
	return out
}

// appendDeeper appends the code of a loop's body, which gets more around it: branches
// beyond the loop go so much further.
func appendDeeper(out, body []byte, further uint32) []byte {
	depth := uint32(0)
	r := &reader{b: body}
	label := func() {
		n := r.u32()
		if n > depth {
			n += further
		}
		out = appendU32(out, n)
	}
	for r.more() {
		start := r.at
		switch op := body[start]; op {
		case opBr, opBrIf:
			r.byte()
			out = append(out, op)
			label()
			continue
		case opBrTable:
			r.byte()
			n := r.count()
			out = appendU32(append(out, op), uint32(n))
			for range n + 1 {
				label()
			}
			continue
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
		}
		r.next()
		out = append(out, body[start:r.at]...)
	}
	return out
}
