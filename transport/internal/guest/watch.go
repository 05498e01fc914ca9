package guest

import (
	"sync/atomic"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/stream"
)

// watch tells a module that serves many connections when a descriptor may be
// ready, after an operation on it was refused.
type watch struct{ in, out watchHalf }

// watchHalf is one direction of a watch; it implements stream.Waker.
type watchHalf struct {
	queue  *controlQueue
	fd     int32
	kind   records.Kind
	queued atomic.Bool // the record is queued and the module has not tried again
}

func newWatch(q *controlQueue, fd int32) *watch {
	return &watch{
		in:  watchHalf{queue: q, fd: fd, kind: records.Readable},
		out: watchHalf{queue: q, fd: fd, kind: records.Writable},
	}
}

// direction returns the waker for a direction, for the module's next wait.
func (w *watch) direction(d stream.Direction) *watchHalf {
	h := &w.in
	if d == stream.Out {
		h = &w.out
	}
	h.queued.Store(false)
	return h
}

// Wake implements stream.Waker.
func (h *watchHalf) Wake() {
	if !h.queued.Swap(true) {
		h.queue.push(records.Record{Kind: h.kind, Value: h.fd})
	}
}
