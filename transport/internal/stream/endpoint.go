package stream

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Limits of what an [Endpoint] queues for a module whose writes must never be short.
const (
	// highWater is the backlog above which a module should be kept from
	// reading more (see [Endpoint.Congested]), lowWater the one at which it may go on.
	highWater = 256 << 10
	lowWater  = 64 << 10
	// maxBacklog is the most that is queued for a module that writes without
	// reading; after that its writes wait.
	maxBacklog = 8 << 20
	// gatherBelow is the size below which a write waits for more, until the
	// module waits itself or there are gatherUpTo bytes.
	gatherBelow = 32 << 10
	gatherUpTo  = bufferSize
)

// Mode is who looks after short writes and the end of one direction.
type Mode uint8

const (
	// Posix leaves them to the module: writes may be short or refused, and the
	// end of a stream is shown when it is reached.
	Posix Mode = iota
	// Careful is for modules that take a short or refused write as fatal and
	// that stop at the first end of stream. Writes take everything, failed
	// writes are swallowed, and the end of a stream is withheld until
	// [Endpoint.ShowEnd].
	Careful
)

// Endpoint is what a module's descriptor refers to: a Stream that can be replaced
// while it is used, with byte counts and the behaviour of its [Mode].
type Endpoint struct {
	mode    Mode
	in, out atomic.Int64 // bytes read and written by the module

	// Held around calls of the stream, one for each direction, so that two threads
	// of a module do not wait for each other. Locked before mu.
	reading, writing sync.Mutex

	mu       sync.Mutex
	s        Stream
	poller   *Poller // see WatchIn
	queue    queue   // Careful: what has not been handed to the stream yet
	finish   bool    // close the outgoing half once the queue is empty
	finished bool    // the outgoing half is closed, or broken
	peeked   []byte  // read to see whether it is the end
	ended    bool    // reading came to an end or failed
	endErr   error
	show     bool  // the end may be shown
	broken   error // first error of a write
	suspect  bool  // see SuspectEnd
	waiting  wakers
	closed   bool
}

// NewEndpoint returns an endpoint over s, which it owns from now on.
func NewEndpoint(s Stream, m Mode) *Endpoint { return &Endpoint{s: s, mode: m} }

// SuspectEnd makes an end of the stream that comes after a write has failed an error, that
// of the write: a connection that has been reset says so once, and what the other direction
// gets to see then looks like a good end.
func (p *Endpoint) SuspectEnd() {
	p.mu.Lock()
	p.suspect = true
	p.mu.Unlock()
}

// Held returns how many bytes of buffers the endpoint holds.
func (p *Endpoint) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue.blocks)*bufferSize + cap(p.peeked)
}

// WatchIn has the endpoint wait in a poller, until Drain, Discard or the poller's Close;
// nil, as at first, is the process's own.
func (p *Endpoint) WatchIn(in *Poller) {
	p.mu.Lock()
	p.poller = in
	s := p.s // one that takes its place knows
	p.mu.Unlock()
	watchIn(s, in)
}

// watchIn does it for a stream that can.
func watchIn(s Stream, in *Poller) {
	if w, ok := s.(interface{ watchIn(*Poller) }); ok {
		w.watchIn(in)
	}
}

// Counts returns the bytes that the module has read and written so far.
func (p *Endpoint) Counts() (in, out int64) { return p.in.Load(), p.out.Load() }

// stream returns what the endpoint is over at present.
func (p *Endpoint) stream() Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s
}

// Datagram reports whether the endpoint keeps message boundaries.
func (p *Endpoint) Datagram() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.Datagram()
}

// Read is that of [Stream].
func (p *Endpoint) Read(bufs [][]byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.peeked) == 0 && p.ended {
		return 0, p.end()
	}
	if len(p.peeked) > 0 {
		n := copyOut(bufs, p.peeked)
		p.in.Add(int64(n))
		if p.peeked = p.peeked[n:]; len(p.peeked) == 0 {
			p.peeked = nil
		}
		return n, nil
	}
	n, err := p.read(bufs)
	p.in.Add(int64(n))
	return n, err
}

// read reads from the stream and notes its end. Both locks are held; mu is not
// while the stream reads.
func (p *Endpoint) read(bufs [][]byte) (int, error) {
	s := p.s
	p.mu.Unlock()
	n, err := s.Read(bufs)
	p.mu.Lock()
	if err != nil && err != ErrWouldBlock && err != ErrTooSmall {
		if p.suspect && p.broken != nil && (errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)) {
			err = p.broken
		}
		p.ended, p.endErr = true, err
		return n, p.end()
	}
	return n, err
}

// AwaitBytes is Await for a read that will block: a Careful endpoint is not ready if
// all there is to read is an end that must not be shown yet.
func (p *Endpoint) AwaitBytes(w Waker) bool {
	for {
		if !p.Await(In, w) {
			return false
		}
		if p.mode == Posix || p.peek() {
			return true
		}
		// Nothing, or a hidden end: Await now knows.
	}
}

// peek reports whether a read would return something, or an end that may be shown.
func (p *Endpoint) peek() bool {
	p.reading.Lock()
	defer p.reading.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || len(p.peeked) > 0 || p.s.Datagram() {
		return true
	}
	buf := make([]byte, 4<<10)
	n, err := p.read([][]byte{buf})
	p.peeked = buf[:n]
	return n > 0 || err != nil && err != ErrWouldBlock
}

// end returns what a read at the end of the stream gets.
func (p *Endpoint) end() error {
	if p.mode == Careful && !p.show {
		return ErrWouldBlock
	}
	return p.endErr
}

// Write is that of [Stream], except that a Careful endpoint takes everything or
// ErrWouldBlock.
func (p *Endpoint) Write(bufs [][]byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == Posix || p.s.Datagram() {
		s := p.s
		p.mu.Unlock()
		n, err := s.Write(bufs)
		p.mu.Lock()
		p.out.Add(int64(n))
		if err != nil && err != ErrWouldBlock && p.broken == nil {
			p.broken = err
		}
		return n, err
	}
	all := size(bufs)
	if p.broken != nil || p.finished {
		return all, nil // there is no reader
	}
	if p.queue.size > maxBacklog {
		return 0, ErrWouldBlock
	}
	if p.queue.size == 0 && all >= gatherBelow {
		n, err := p.s.Write(bufs)
		p.out.Add(int64(n))
		if err != nil && err != ErrWouldBlock {
			p.fail(err)
			return all, nil
		}
		bufs = skip(bufs, n)
	}
	p.queue.push(bufs)
	if p.queue.size >= gatherUpTo {
		p.flush()
	}
	return all, nil
}

// Flush hands the stream what small writes have left. The module is about to
// wait, or has ended.
func (p *Endpoint) Flush() {
	if p.mode == Posix {
		return
	}
	p.mu.Lock()
	p.flush()
	p.mu.Unlock()
}

// fail records that the outgoing half is broken. The lock is held.
func (p *Endpoint) fail(err error) {
	p.broken, p.finished = err, true
	p.queue.clear()
}

// flush hands the queue to the stream as far as it takes it, and asks to be
// woken for the rest. The lock is held.
func (p *Endpoint) flush() {
	for p.queue.size > 0 {
		n, err := p.s.Write(p.queue.front())
		if err == ErrWouldBlock {
			if p.s.Await(Out, p) {
				continue
			}
			return
		}
		if err != nil {
			p.fail(err)
			return
		}
		p.out.Add(int64(n))
		p.queue.pop(n)
	}
}

// Wake implements [Waker]: the stream takes bytes again.
func (p *Endpoint) Wake() {
	p.mu.Lock()
	p.flush()
	fin := p.finishing()
	var ws wakers
	if p.queue.size <= lowWater || fin {
		ws = p.waiting.take()
	}
	s := p.s
	p.mu.Unlock()
	if fin {
		_ = s.CloseWrite() // a stream that is broken already needs no end
	}
	ws.wake()
}

// finishing reports, once, that the outgoing half is to be closed now. The lock
// is held.
func (p *Endpoint) finishing() bool {
	if !p.finish || p.finished || p.queue.size > 0 {
		return false
	}
	p.finished = true
	return true
}

// CloseWrite ends the outgoing half after what was written.
func (p *Endpoint) CloseWrite() error {
	p.mu.Lock()
	p.finish = true
	p.flush()
	fin, s := p.finishing(), p.s
	var ws wakers
	if fin {
		ws = p.waiting.take()
	}
	p.mu.Unlock()
	if !fin {
		return nil
	}
	defer ws.wake()
	return s.CloseWrite()
}

// CloseRead ends reading for the module; what arrives from now on is discarded.
func (p *Endpoint) CloseRead() error {
	p.mu.Lock()
	if !p.ended {
		p.ended, p.endErr = true, io.EOF
	}
	s, ws := p.s, p.waiting.take()
	p.mu.Unlock()
	defer ws.wake()
	return s.CloseRead()
}

// Await is that of [Stream]. Wakes of an endpoint whose state changed in another way
// (it was congested, or its end may be shown) reach w as well.
func (p *Endpoint) Await(d Direction, w Waker) bool {
	s, ready := p.await(d, w)
	if s != nil { // one that is replaced meanwhile wakes w when it is closed
		return s.Await(d, w)
	}
	return ready
}

// await is Await as far as the endpoint itself can tell; if not, it returns the stream.
func (p *Endpoint) await(d Direction, w Waker) (s Stream, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed, d == In && len(p.peeked) > 0:
		return nil, true
	case d == In && p.ended:
		if p.mode == Careful && !p.show {
			p.waiting.add(w)
			return nil, false
		}
		return nil, true
	case d == Out && p.mode == Careful && !p.s.Datagram():
		if p.queue.size <= maxBacklog {
			return nil, true
		}
		p.waiting.add(w)
		return nil, false
	}
	return p.s, false
}

// Congested reports whether so much is queued that the module should not read
// from elsewhere. If it is, w is woken when it is no longer.
func (p *Endpoint) Congested(w Waker) bool {
	if p.mode == Posix {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue.size < highWater {
		return false
	}
	p.waiting.add(w)
	return true
}

// InEnded reports whether the module has read everything there will ever be.
func (p *Endpoint) InEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended && len(p.peeked) == 0
}

// InBroken returns the error that ended the endpoint's reading half; nil if it goes
// on or came to a clean end.
func (p *Endpoint) InBroken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended && !errors.Is(p.endErr, io.EOF) {
		return p.endErr
	}
	return nil
}

// OutBroken returns the first error of the endpoint's writing half.
func (p *Endpoint) OutBroken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// OutFinished reports whether the outgoing half has ended and everything written
// before has been handed to the stream. If not, w is woken when it has.
func (p *Endpoint) OutFinished(w Waker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished || p.closed {
		return true
	}
	p.waiting.add(w)
	return false
}

// ShowEnd lets a Careful module see the end of the stream.
func (p *Endpoint) ShowEnd() {
	p.mu.Lock()
	p.show = true
	ws := p.waiting.take()
	p.mu.Unlock()
	ws.wake()
}

// Close releases the stream.
func (p *Endpoint) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed, p.finished = true, true
	p.queue.clear()
	s, ws := p.s, p.waiting.take()
	p.mu.Unlock()
	err := s.Close()
	ws.wake()
	return err
}
