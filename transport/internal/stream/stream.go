// Package stream holds the connections that a transport module works on.
//
// A module is driven by one goroutine and must never hold an OS thread, so
// every [Stream] is non-blocking: it reads, writes, or returns [ErrWouldBlock] and
// wakes a [Waker] later. [Open] makes a Stream of any net.Conn, [NewPipe] makes
// one whose other end is a net.Conn for the Go caller, and [Endpoint] adds what a
// module's descriptor needs on top: a swap of the underlying stream, byte
// counts, and for modules that cannot do it themselves, outbound queueing and
// half-closing.
package stream

import (
	"errors"
	"slices"
	"time"
)

// ErrWouldBlock is returned by a Stream that cannot do anything right now.
var ErrWouldBlock = errors.New("operation would block")

// ErrTooSmall is returned by a Stream whose next message does not fit into the
// buffers of a read. It is still there for a larger read.
var ErrTooSmall = errors.New("the buffer is too small")

// Direction tells which half of a stream an operation is about.
type Direction uint8

// The two halves of a stream, seen from the module.
const (
	In  Direction = iota // bytes that the module reads
	Out                  // bytes that the module writes
)

// A Waker is called when a stream may have become ready. Wake must not block and
// must not call back into the stream that called it.
type Waker interface{ Wake() }

// Stream is one connection as a module sees it. Its methods never block and may
// be called from several goroutines at once.
type Stream interface {
	// Read fills bufs in order. It returns io.EOF at the end of the stream and
	// ErrWouldBlock when there is nothing to read yet. One call returns at most
	// one message of a datagram stream.
	Read(bufs [][]byte) (int, error)
	// Write takes as many bytes as fit; fewer than all is no error unless none
	// fit, which is ErrWouldBlock. A datagram is taken whole or not at all.
	Write(bufs [][]byte) (int, error)
	// Await reports whether the half is ready (also when the next operation
	// would fail). If it is not, w is woken once when it may be.
	Await(d Direction, w Waker) bool
	// CloseRead discards what arrives from now on.
	CloseRead() error
	// CloseWrite ends the outgoing half; the peer sees the end of the stream.
	CloseWrite() error
	// Close releases the stream and ends every wait on it.
	Close() error
	// Datagram reports whether reads and writes keep message boundaries.
	Datagram() bool
}

// A Waiter is a Waker in which one goroutine waits.
type Waiter interface {
	Waker
	// Wait returns after a wake, at a time (the zero time is never), or for no reason.
	// A wake while no one waits ends the next Wait.
	Wait(until time.Time)
	// Look wakes whoever waits for a socket that is ready, without waiting. A goroutine
	// that has something else to do calls it now and then instead of Wait.
	Look()
}

// wakers is a set of wakers that are each woken once.
type wakers []Waker

func (ws *wakers) add(w Waker) {
	if !slices.Contains(*ws, w) {
		*ws = append(*ws, w)
	}
}

func (ws *wakers) remove(w Waker) {
	if i := slices.Index(*ws, w); i >= 0 {
		*ws = slices.Delete(*ws, i, i+1)
	}
}

// take empties the set, so that its wakers can be woken without the lock that
// guards it.
func (ws *wakers) take() wakers {
	t := *ws
	*ws = nil
	return t
}

func (ws wakers) wake() {
	for _, w := range ws {
		w.Wake()
	}
}

// A Signal is a Waker that a goroutine can wait for. Wakes while no one waits
// are remembered as one.
type Signal chan struct{}

// NewSignal returns a Signal that has not been woken.
func NewSignal() Signal { return make(Signal, 1) }

// Wake implements [Waker].
func (s Signal) Wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// copyOut copies src into bufs in order and returns how much fitted.
func copyOut(bufs [][]byte, src []byte) (n int) {
	for _, b := range bufs {
		if n == len(src) {
			break
		}
		n += copy(b, src[n:])
	}
	return n
}

// size returns the number of bytes in bufs.
func size(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// skip returns bufs without their first n bytes. The slice is reused.
func skip(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}
