package stream

// queue is a FIFO of bytes without a bound, in blocks from the pool.
type queue struct {
	blocks []*[bufferSize]byte
	start  int // of the bytes in the first block
	size   int
}

// push appends copies of the bytes in bufs.
func (q *queue) push(bufs [][]byte) {
	for _, b := range bufs {
		for len(b) > 0 {
			end := q.start + q.size
			if end == len(q.blocks)*bufferSize {
				q.blocks = append(q.blocks, bufferPool.Get().(*[bufferSize]byte))
			}
			n := copy(q.blocks[end/bufferSize][end%bufferSize:], b)
			q.size += n
			b = b[n:]
		}
	}
}

// front returns the first bytes, in one piece.
func (q *queue) front() [][]byte {
	return [][]byte{q.blocks[0][q.start:min(q.start+q.size, bufferSize)]}
}

// pop removes n bytes of what front returned.
func (q *queue) pop(n int) {
	q.start += n
	q.size -= n
	if q.start == bufferSize || q.size == 0 {
		bufferPool.Put(q.blocks[0])
		q.blocks[0] = nil
		q.blocks = q.blocks[1:]
		q.start = 0
	}
	if q.size == 0 {
		q.blocks = nil
	}
}

func (q *queue) clear() {
	for _, b := range q.blocks {
		bufferPool.Put(b)
	}
	*q = queue{}
}
