package stream

import (
	"io"
	"sync"
	"syscall"
)

// bufferSize is how much one direction of a pipe holds: enough for a bulk
// transfer to run at memory speed, small enough that thousands of stalled
// connections are affordable.
const bufferSize = 64 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// buffer is one direction of a pipe: a bounded FIFO of bytes. Memory is held
// only while there are bytes in it.
type buffer struct {
	mu       sync.Mutex
	ring     *[bufferSize]byte // nil while empty
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
			k := copy(p, b.ring[b.start:min(b.start+b.n, bufferSize)])
			b.start = (b.start + k) % bufferSize
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
	for _, p := range bufs {
		for len(p) > 0 && b.n < bufferSize {
			if b.ring == nil {
				b.ring = bufferPool.Get().(*[bufferSize]byte)
			}
			at := (b.start + b.n) % bufferSize
			end := bufferSize
			if at < b.start {
				end = b.start
			}
			k := copy(b.ring[at:end], p)
			b.n += k
			n += k
			p = p[k:]
		}
	}
	if n == 0 && size(bufs) > 0 {
		b.mu.Unlock()
		return 0, ErrWouldBlock
	}
	ws := b.readers.take()
	b.mu.Unlock()
	ws.wake()
	return n, nil
}

// release gives the ring back when it holds nothing. The lock is held.
func (b *buffer) release() {
	if b.n == 0 && b.ring != nil {
		bufferPool.Put(b.ring)
		b.ring, b.start = nil, 0
	}
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
	if b.n < bufferSize || b.ended || b.dropped || b.discard {
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
	if b.n > 0 {
		end := min(b.start+b.n, bufferSize)
		all = append(all, b.ring[b.start:end]...)
		all = append(all, b.ring[:b.n-(end-b.start)]...)
		b.n = 0
		b.release()
	}
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
