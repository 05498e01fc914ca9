package wasmfile

import "slices"

// straighten returns a function's body, which begins after the locals, with
// direct branches where Go's compiler goes by way of the dispatch: to segments
// further on, and in innermost loops, each of which becomes a loop of its own in
// place of the segment where it begins. wazero keeps a function's variables in
// memory at the dispatch, so that going by way of it costs more than the loop's
// work does.
//
// turns is a local, count a global that counts down. A loop of its own goes by way
// of the dispatch after turnsInLoop turns, having taken what they weigh from count. loops are
// the places of these loops in the new body.
func straighten(body []byte, turns, count uint32) (out []byte, loops []int) {
	d := findDispatch(body)
	if d == nil {
		return body, nil
	}
	d.weight = weigh(body).all
	found := map[int][]int{} // by the segment where a loop begins
	for _, l := range d.loops() {
		found[l[0]] = l
	}
	out = append(make([]byte, 0, len(body)+len(body)/2), body[:d.head]...)
	for i := range d.segments {
		if l := found[i]; l != nil {
			loops = append(loops, len(out)+len(turnsSet(turns)))
			out = d.appendLoop(out, l, turns, count)
		} else {
			out = d.appendSegment(out, i, d.around(i), func(to int) int { return d.forward(i, to) })
		}
		out = append(out, opEnd)
	}
	return append(out, body[d.segments[len(d.segments)-1].end+1:]...), loops
}

// turnsInLoop is how often a loop may go round before it goes by way of the
// dispatch, where the code can be stopped.
const turnsInLoop = 64

func turnsSet(turns uint32) []byte {
	return appendU32(append(appendS32([]byte{opI32Const}, turnsInLoop), opLocalSet), turns)
}

// forward is the depth, in one segment, of a jump to another one: direct if that
// is further on, else the loop's.
func (d *dispatch) forward(from, to int) int {
	if to > from {
		return to - from - 1
	}
	return d.around(from)
}

// loops returns the innermost loops of leaf segments, each in an order in which no
// branch leads back except to its first segment.
func (d *dispatch) loops() [][]int {
	var leaves []int
	for i, s := range d.segments {
		if s.leaf {
			leaves = append(leaves, i)
		}
	}
	return slices.DeleteFunc(d.innermost(leaves, 0), func(l []int) bool { return !d.canLoop(l) })
}

// maxNesting bounds the search for loops within loops.
const maxNesting = 8

// innermost returns the innermost loops among some segments.
func (d *dispatch) innermost(among []int, nesting int) (loops [][]int) {
	for _, c := range d.cycles(among) {
		first := d.entrance(c)
		rest := slices.DeleteFunc(slices.Clone(c), func(i int) bool { return i == first })
		switch inner := d.cycles(rest); {
		case len(inner) == 0:
			loops = append(loops, d.order(first, c))
		case nesting < maxNesting:
			loops = append(loops, d.innermost(rest, nesting+1)...)
		}
	}
	return loops
}

// entrance is the segment of a loop to which the code outside leads.
func (d *dispatch) entrance(loop []int) int {
	for i, s := range d.segments {
		if slices.Contains(loop, i) {
			continue
		}
		for _, to := range s.next {
			if slices.Contains(loop, to) {
				return to
			}
		}
	}
	return loop[0]
}

// cycles returns the strongly connected components that are loops, of the graph of
// some segments (Tarjan's algorithm).
func (d *dispatch) cycles(among []int) (cycles [][]int) {
	index, low := map[int]int{}, map[int]int{} // from 1, in the order of visits
	member, onStack := map[int]bool{}, map[int]bool{}
	for _, i := range among {
		member[i] = true
	}
	var stack []int
	var visit func(i int)
	visit = func(i int) {
		index[i] = len(index) + 1
		low[i] = index[i]
		stack, onStack[i] = append(stack, i), true
		for _, to := range d.segments[i].next {
			if !member[to] {
				continue
			}
			if index[to] == 0 {
				visit(to)
				low[i] = min(low[i], low[to])
			} else if onStack[to] {
				low[i] = min(low[i], index[to])
			}
		}
		if low[i] != index[i] {
			return
		}
		at := slices.Index(stack, i)
		c := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, j := range c {
			onStack[j] = false
		}
		if len(c) > 1 || slices.Contains(d.segments[i].next, i) {
			slices.Sort(c)
			cycles = append(cycles, c)
		}
	}
	for _, i := range among {
		if index[i] == 0 {
			visit(i)
		}
	}
	return cycles
}

// order sorts a loop such that all branches lead forward, but for those to the
// first segment.
func (d *dispatch) order(first int, loop []int) (order []int) {
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		seen[i] = true
		for _, to := range d.segments[i].next {
			if !seen[to] && slices.Contains(loop, to) {
				visit(to)
			}
		}
		order = append(order, i)
	}
	visit(first)
	slices.Reverse(order)
	return order
}

// canLoop reports whether there are values of pc for all the segments to which the
// loop must go by way of the dispatch.
func (d *dispatch) canLoop(loop []int) bool {
	first := loop[0]
	for _, i := range loop {
		if to := i + 1; d.segments[i].falls && to < first && !slices.Contains(loop, to) && d.value(to) < 0 {
			return false
		}
	}
	return d.value(first) >= 0
}

// appendLoop appends a loop, whose segments follow each other in blocks:
//
//	loop
//	  block block
//	    segment
//	  end segment
//	  end segment
//	end
func (d *dispatch) appendLoop(out []byte, loop []int, turns, count uint32) []byte {
	first := loop[0]
	out = append(append(out, turnsSet(turns)...), opLoop, typeVoid)
	out = d.appendTurn(out, first, turns, count)
	for range loop[1:] {
		out = append(out, opBlock, typeVoid)
	}
	for n, i := range loop {
		inside := len(loop) - 1 - n // blocks that are still open
		label := func(to int) int {
			switch at := slices.Index(loop, to); {
			case at == 0:
				return inside
			case at > 0:
				return at - n - 1
			}
			return inside + 1 + d.forward(first, to)
		}
		out = d.appendSegment(out, i, inside+1+d.around(first), label)
		if d.segments[i].falls {
			out = d.appendJump(out, i+1, label(i+1))
		}
		if inside > 0 {
			out = append(out, opEnd)
		}
	}
	return append(out, opEnd, opUnreachable)
}

// appendTurn appends what happens at the start of each turn of a loop.
func (d *dispatch) appendTurn(out []byte, first int, turns, count uint32) []byte {
	get := appendU32([]byte{opLocalGet}, turns)
	out = append(append(out, get...), opI32Eqz, opIf, typeVoid)
	out = appendU32(append(out, opGlobalGet), count)
	out = append(appendS32(append(out, opI32Const), turnsInLoop*d.weight), opI32Sub, opGlobalSet)
	out = d.appendJump(appendU32(out, count), first, 2+d.around(first))
	out = append(append(append(out, opEnd), get...), opI32Const, 1, opI32Sub, opLocalSet)
	return appendU32(out, turns)
}

// appendJump appends a jump to a segment, by a branch of this depth.
func (d *dispatch) appendJump(out []byte, to, depth int) []byte {
	if v := d.value(to); v >= 0 {
		out = appendS32(append(out, opI32Const), int32(v))
		out = appendU32(append(out, opLocalSet), d.pc)
	}
	return appendU32(append(out, opBr), uint32(depth))
}
