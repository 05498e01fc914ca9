package guest

import (
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/stream"
)

// controlQueue is the control descriptor of an instance that serves many
// connections: a stream of records in both directions. A read returns whole
// records. A write is carried out before it returns.
//
// A module that does not read is of no use to anybody any more: after patience, or
// when maxUnread bytes wait for it, it is given up.
type controlQueue struct {
	handle   func(records.Record) error // a record of the module; nil if all is well
	abort    func(why string)
	patience time.Duration

	mu      sync.Mutex
	records []byte // for the module
	read    int    // of records
	ended   bool
	waiting []stream.Waker // one for each thread that waits
	watch   *time.Timer    // calls check; nil if nothing waits to be read
	taken   bool           // the module has read since watch was set
}

// maxUnread is far more than a module leaves unread that reads at all.
const maxUnread = 16 << 20

var _ stream.Stream = (*controlQueue)(nil)

// push queues a record for the module.
func (q *controlQueue) push(r records.Record) {
	q.mu.Lock()
	if !q.ended {
		if q.read > len(q.records)/2 { // what has been read must not pile up
			q.records = append(q.records[:0], q.records[q.read:]...)
			q.read = 0
		}
		q.records = r.Append(q.records)
		if q.watch == nil && q.patience > 0 {
			q.taken = false
			q.watch = time.AfterFunc(q.patience, q.check)
		}
	}
	tooMuch := len(q.records)-q.read > maxUnread && !q.ended
	if tooMuch {
		q.ended = true
	}
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for _, w := range waiting {
		w.Wake()
	}
	if tooMuch {
		q.abort("leaves too many records unread")
	}
}

// check sees whether the module reads.
func (q *controlQueue) check() {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.watch == nil: // the instance has ended
	case len(q.records) == q.read:
		q.watch = nil
	case q.taken:
		q.taken = false
		q.watch.Reset(q.patience)
	default:
		q.abort("does not read its records")
	}
}

// discard empties the queue for good.
func (q *controlQueue) discard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended, q.records, q.read = true, nil, 0
	if q.watch != nil {
		q.watch.Stop()
		q.watch = nil
	}
}

// end makes the module see the end of the stream after what is queued.
func (q *controlQueue) end() {
	q.mu.Lock()
	q.ended = true
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for _, w := range waiting {
		w.Wake()
	}
}

// keptQueue is how much memory an empty queue keeps.
const keptQueue = 16 << 10

// Read implements stream.Stream. A buffer too small for the next record is an
// error, EINVAL.
func (q *controlQueue) Read(bufs [][]byte) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pending := q.records[q.read:]
	if len(pending) == 0 {
		if q.ended {
			return 0, io.EOF
		}
		return 0, stream.ErrWouldBlock
	}
	room := 0
	for _, b := range bufs {
		room += len(b)
	}
	whole := 0
	for whole < len(pending) {
		next := records.Size(pending[whole:])
		if whole+next > room {
			break
		}
		whole += next
	}
	if whole == 0 {
		return 0, stream.ErrTooSmall
	}
	for _, b := range bufs {
		n += copy(b, pending[n:whole])
	}
	q.read += n
	q.taken = true
	if q.read == len(q.records) {
		q.read = 0
		if q.records = q.records[:0]; cap(q.records) > keptQueue {
			q.records = nil
		}
	}
	return n, nil
}

// Write implements stream.Stream: each call carries whole records.
func (q *controlQueue) Write(bufs [][]byte) (int, error) {
	var message []byte
	if len(bufs) == 1 {
		message = bufs[0]
	} else {
		for _, b := range bufs {
			message = append(message, b...)
		}
	}
	for rest := message; len(rest) > 0; {
		r, next, err := records.Parse(rest)
		if err != nil {
			return 0, syscall.EINVAL
		}
		if err := q.handle(r); err != nil {
			return 0, err
		}
		rest = next
	}
	return len(message), nil
}

// Await implements stream.Stream.
func (q *controlQueue) Await(d stream.Direction, w stream.Waker) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d == stream.Out || q.ended || len(q.records) > q.read {
		return true
	}
	if !slices.Contains(q.waiting, w) {
		q.waiting = append(q.waiting, w)
	}
	return false
}

// CloseRead, CloseWrite and Close implement stream.Stream: closing the control
// descriptor changes nothing.
func (q *controlQueue) CloseRead() error  { return nil }
func (q *controlQueue) CloseWrite() error { return nil }
func (q *controlQueue) Close() error      { return nil }

// Datagram implements stream.Stream. Reads keep the bounds of records, but a
// module may read several at once.
func (q *controlQueue) Datagram() bool { return false }
