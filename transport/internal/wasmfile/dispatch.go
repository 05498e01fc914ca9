package wasmfile

import "slices"

// dispatch is the form in which Go's compiler writes a function with jumps:
//
//	loop
//	  block block ... block     one for each segment
//	    local.get pc
//	    br_table ...            enters the segment that pc means
//	  end                       the first segment follows
//	  end                       the second one
//	  ...
//	end
//
// A segment runs into the next one, or sets pc and branches to the loop.
type dispatch struct {
	body     []byte
	head     int    // where the first segment's block ends
	pc       uint32 // the local
	enters   []int  // the segment that a value of pc means
	segments []segment
	weight   int32 // of a turn
}

// segment is the code from one block's end to the next.
type segment struct {
	start, end int
	next       []int // the segments that it runs into or jumps to
	falls      bool  // it runs into the next one
	leaf       bool  // it neither calls nor loops, and branches as described
	branches   []branch
}

// branch is a label that leads out of a segment.
type branch struct {
	start, end int // of the label in the body
	nest       int // blocks within the segment around it
	depth      int // the label
	to         int // the segment that a jump leads to; -1 if it is none
}

// maxSegments bounds the work on a function. Larger ones stay as they are.
const maxSegments = 4096

// findDispatch returns the dispatch of a function's body, nil if it has none. The
// body begins after the locals.
func findDispatch(body []byte) *dispatch {
	r := &reader{b: body}
	for r.more() && !r.next().loop {
	}
	d := &dispatch{body: body}
	if !r.more() || body[r.at-1] != typeVoid {
		return nil
	}
	blocks := 0
	for ; r.op(opBlock); blocks++ {
		if r.byte() != typeVoid {
			return nil
		}
	}
	if blocks == 0 || blocks > maxSegments || !r.op(opLocalGet) {
		return nil
	}
	d.pc = r.u32()
	if !r.op(opBrTable) {
		return nil
	}
	n := r.count() + 1
	if n > maxSegments {
		return nil
	}
	for range n {
		to := r.u32()
		if int64(to) >= int64(blocks) {
			return nil
		}
		d.enters = append(d.enters, int(to))
	}
	if !r.op(opEnd) {
		return nil
	}
	d.head = r.at
	for i := range blocks {
		s, ok := d.segment(r, i, blocks-1-i)
		if !ok {
			return nil
		}
		d.segments = append(d.segments, s)
	}
	return d
}

// op takes the next byte if it is this opcode.
func (r *reader) op(code byte) bool {
	if !r.more() || r.b[r.at] != code {
		return false
	}
	r.at++
	return true
}

// segment reads segment i, around which there are so many blocks, and its end.
func (d *dispatch) segment(r *reader, i, around int) (segment, bool) {
	s := segment{start: r.at, falls: true, leaf: true}
	nest, toLoop := 0, -1 // the segment that a branch to the loop leads to, -1 if unknown
	set := -1             // the value on the stack that may go to pc
	for r.more() {
		at := r.at
		op := r.b[at]
		in := r.next()
		if r.err != nil {
			return s, false
		}
		s.leaf = s.leaf && !in.call && !in.loop
		if nest == 0 && op != opEnd {
			s.falls = op != opBr && op != opBrTable && op != opReturn && op != opUnreachable
		}
		imm := &reader{b: r.b[:r.at], at: at + 1}
		jump := toLoop
		toLoop = -1
		switch op {
		case opBlock, opLoop, opIf:
			nest++
		case opTry, opCatch, opThrow, opRethrow, opDelegate, opCatchAll, opTryTable:
			return s, false // Go has no use for them
		case opEnd:
			if nest == 0 {
				s.end = at
				if s.falls {
					s.next = append(s.next, i+1)
					s.leaf = s.leaf && around > 0
				}
				return s, true
			}
			nest--
		case opI32Const:
			set = int(imm.s32())
			continue
		case opLocalSet:
			if v := set; imm.u32() == d.pc && v >= 0 && v < len(d.enters) {
				toLoop = d.enters[v]
			}
		case opBr, opBrIf:
			s.branch(imm, nest, around, jump)
		case opBrTable:
			for range imm.count() + 1 {
				s.branch(imm, nest, around, -1)
			}
		}
		set = -1
	}
	return s, false
}

// branch notes a label that leads out of the segment.
func (s *segment) branch(imm *reader, nest, around, jump int) {
	b := branch{start: imm.at, nest: nest, to: -1}
	b.depth = int(imm.u32())
	b.end = imm.at
	switch out := b.depth - nest; {
	case out < 0:
		return
	case out < around:
		s.leaf = false // it goes to a segment, but not by way of pc
	case out == around && jump >= 0:
		b.to = jump
		s.next = append(s.next, jump)
	}
	s.branches = append(s.branches, b)
}

// value returns a value of pc that means a segment, -1 if there is none.
func (d *dispatch) value(segment int) int { return slices.Index(d.enters, segment) }

// around is the number of blocks around a segment, and the depth of the loop.
func (d *dispatch) around(segment int) int { return len(d.segments) - 1 - segment }

// appendSegment appends a segment's code, in another place: there the
// loop has the depth given, and a jump to a segment goes to the depth that label
// tells.
func (d *dispatch) appendSegment(out []byte, i, loop int, label func(segment int) int) []byte {
	s := &d.segments[i]
	copied := s.start
	for _, b := range s.branches {
		depth := b.depth + loop - d.around(i)
		if b.to >= 0 {
			depth = b.nest + label(b.to)
		} else if b.depth-b.nest < d.around(i) {
			depth = b.depth // a segment that holds such a branch stays where it is
		}
		out = appendU32(append(out, d.body[copied:b.start]...), uint32(depth))
		copied = b.end
	}
	return append(out, d.body[copied:s.end]...)
}
