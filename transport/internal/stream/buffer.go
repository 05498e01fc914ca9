package stream

import (
	"io"
	"sync"
	"syscall"
)

// bufferSize is that of buffers which are held for a short time.
const bufferSize = 64 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// One direction of a pipe holds up to largeRing bytes: enough for a bulk transfer to
// run at memory speed, small enough that thousands of stalled connections are
// affordable. As long as smallRing is enough it takes no more, for those where a few
// bytes wait to be read.
const (
	smallRing = 4 << 10
	largeRing = 256 << 10
)

var (
	smallRings = sync.Pool{New: func() any { return new([smallRing]byte) }}
	largeRings = sync.Pool{New: func() any { return new([largeRing]byte) }}
)

// buffer is one direction of a pipe: a bounded FIFO of bytes. Memory is held
// only while there are bytes in it.
type buffer struct {
	mu       sync.Mutex
	ring     []byte // nil while empty
	start, n int
	ended    bool  // no more writes; readers see the end after the last byte
	err      error // what readers get at the end; io.EOF unless the stream broke
	dropped  bool  // the reader is gone; writes fail
	discard  bool  // the reader is gone and writes vanish
	readers  wakers
	writers  wakers
}

func (b *buffer) read(bufs [][]byte) (n int, err error) {
	b.mu.Lock()
	if b.n == 0 {
		defer b.mu.Unlock()
		switch {
		case b.dropped, b.discard:
			return 0, io.ErrClosedPipe
		case b.ended:
			return 0, b.err
		}
		return 0, ErrWouldBlock
	}
	for _, p := range bufs {
		for len(p) > 0 && b.n > 0 {
			k := copy(p, b.ring[b.start:min(b.start+b.n, len(b.ring))])
			b.start = (b.start + k) % len(b.ring)
			b.n -= k
			n += k
			p = p[k:]
		}
	}
	b.release()
	ws := b.writers.take()
	b.mu.Unlock()
	ws.wake()
	return n, nil
}

func (b *buffer) write(bufs [][]byte) (n int, err error) {
	b.mu.Lock()
	switch {
	case b.ended, b.dropped:
		b.mu.Unlock()
		return 0, syscall.EPIPE
	case b.discard:
		b.mu.Unlock()
		return size(bufs), nil
	}
	all := size(bufs)
	b.makeRoom(all)
	for _, p := range bufs {
		for len(p) > 0 && b.n < len(b.ring) {
			at := (b.start + b.n) % len(b.ring)
			end := len(b.ring)
			if at < b.start {
				end = b.start
			}
			k := copy(b.ring[at:end], p)
			b.n += k
			n += k
			p = p[k:]
		}
	}
	if n == 0 && all > 0 {
		b.mu.Unlock()
		return 0, ErrWouldBlock
	}
	ws := b.readers.take()
	b.mu.Unlock()
	ws.wake()
	return n, nil
}

// makeRoom takes a ring for k more bytes, or as many as there may be. The lock is
// held.
func (b *buffer) makeRoom(k int) {
	switch {
	case k == 0 || b.n+k <= len(b.ring) || len(b.ring) == largeRing:
	case b.n+k <= smallRing:
		b.ring = smallRings.Get().(*[smallRing]byte)[:]
	default:
		ring := largeRings.Get().(*[largeRing]byte)[:]
		n := 0
		for _, p := range b.pieces() {
			n += copy(ring[n:], p)
		}
		b.free()
		b.ring, b.start, b.n = ring, 0, n
	}
}

// pieces returns the bytes in the ring. The lock is held.
func (b *buffer) pieces() [2][]byte {
	end := min(b.start+b.n, len(b.ring))
	return [2][]byte{b.ring[b.start:end], b.ring[:b.n-(end-b.start)]}
}

// release gives the ring back when it holds nothing. The lock is held.
func (b *buffer) release() {
	if b.n == 0 {
		b.free()
	}
}

// free gives the ring back. The lock is held.
func (b *buffer) free() {
	switch len(b.ring) {
	case smallRing:
		smallRings.Put((*[smallRing]byte)(b.ring))
	case largeRing:
		largeRings.Put((*[largeRing]byte)(b.ring))
	}
	b.ring, b.start = nil, 0
}

// awaitRead and awaitWrite report readiness or remember w.
func (b *buffer) awaitRead(w Waker) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n > 0 || b.ended || b.dropped || b.discard {
		return true
	}
	b.readers.add(w)
	return false
}

func (b *buffer) awaitWrite(w Waker) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n < largeRing || b.ended || b.dropped || b.discard {
		return true
	}
	b.writers.add(w)
	return false
}

func (b *buffer) forget(w Waker) {
	b.mu.Lock()
	b.readers.remove(w)
	b.writers.remove(w)
	b.mu.Unlock()
}

// end stops the writing half: readers get what is there, then err.
func (b *buffer) end(err error) { b.change(func() { b.setEnd(err) }) }

func (b *buffer) setEnd(err error) {
	if !b.ended {
		b.ended, b.err = true, err
	}
}

// drop stops the reading half: what is in the buffer is lost, writes fail.
func (b *buffer) drop() { b.change(func() { b.dropped = true; b.n = 0; b.release() }) }

// swallow stops the reading half, but lets the writer go on as if it were read.
func (b *buffer) swallow() { b.change(func() { b.discard = true; b.n = 0; b.release() }) }

func (b *buffer) change(f func()) {
	b.mu.Lock()
	f()
	r, w := b.readers.take(), b.writers.take()
	b.mu.Unlock()
	r.wake()
	w.wake()
}

// takeAll empties the buffer. The caller wakes whom it returns, once it holds no
// lock that they may want.
func (b *buffer) takeAll() (all []byte, ws wakers) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pieces() {
		all = append(all, p...)
	}
	b.n = 0
	b.release()
	return all, b.writers.take()
}

func (b *buffer) hasEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *buffer) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}
