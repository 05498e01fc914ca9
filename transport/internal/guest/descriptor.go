package guest

import (
	"slices"
	"sync"
	"sync/atomic"

	"waterproxy/transport/internal/stream"
)

// descriptor is an entry of an instance's descriptor table.
type descriptor struct {
	endpoint *stream.Endpoint // a connection, or the control channel
	file     *file            // a file or directory
	output   *lineLogger      // standard output or standard error
	nonblock atomic.Bool

	// Of an instance that serves many connections:
	owner *Conn  // whose connection the endpoint is; nil for other descriptors
	watch *watch // tells the module when the endpoint is ready

	// When a Careful module, which has one thread, last learned that the endpoint can be
	// written to; see Instance.knowsWritable.
	known   bool
	knownAt uint64
}

// watched asks for a record to the module once the endpoint may be ready. It reports
// whether it is ready at once.
func (d *descriptor) watched(dir stream.Direction) bool {
	return d.watch != nil && d.endpoint.Await(dir, d.watch.direction(dir))
}

// descriptors is an instance's descriptor table. Numbers are given out lowest
// first, as POSIX does.
type descriptors struct {
	mu    sync.Mutex
	limit int // of those that belong to no connection of a Many, which bounds its own
	slots []*descriptor
	used  int         // of those that count for limit
	low   int         // no slot below is free
	room  func() bool // whether there is memory for one more; nil if there always is
}

// insert returns the number of d, or false if the table is full.
func (t *descriptors) insert(d *descriptor) (int32, bool) {
	if t.room != nil && !t.room() {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= t.limit {
		return 0, false
	}
	t.used++
	return t.place(func(int32) *descriptor { return d }), true
}

// insertOwned is insert for a descriptor of a connection, which has to know its
// number. The connection has counted it.
func (t *descriptors) insertOwned(d func(fd int32) *descriptor) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.place(d)
}

// place puts a descriptor into the lowest free slot. The lock is held.
func (t *descriptors) place(d func(fd int32) *descriptor) int32 {
	for ; t.low < len(t.slots); t.low++ {
		if t.slots[t.low] == nil {
			t.slots[t.low] = d(int32(t.low))
			return int32(t.low)
		}
	}
	t.slots = append(t.slots, d(int32(t.low)))
	t.low = len(t.slots)
	return int32(t.low - 1)
}

// taken notes that a descriptor is no longer in the table. The lock is held.
func (t *descriptors) taken(d *descriptor) {
	if d.owner == nil {
		t.used--
	}
}

// get returns nil for a number that is not in use.
func (t *descriptors) get(fd uint32) *descriptor {
	t.mu.Lock()
	defer t.mu.Unlock()
	if uint64(fd) >= uint64(len(t.slots)) {
		return nil
	}
	return t.slots[fd]
}

// remove takes a number out of use and returns what it was for.
func (t *descriptors) remove(fd uint32) *descriptor {
	t.mu.Lock()
	defer t.mu.Unlock()
	if uint64(fd) >= uint64(len(t.slots)) || t.slots[fd] == nil {
		return nil
	}
	d := t.slots[fd]
	t.slots[fd] = nil
	t.taken(d)
	t.low = min(t.low, int(fd))
	return d
}

// renumber moves from to to, and returns what was at to.
func (t *descriptors) renumber(from, to uint32) (replaced *descriptor, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := uint64(len(t.slots))
	if uint64(from) >= n || uint64(to) >= n || t.slots[from] == nil || t.slots[to] == nil {
		return nil, false
	}
	if from == to {
		return nil, true
	}
	replaced = t.slots[to]
	t.slots[to], t.slots[from] = t.slots[from], nil
	t.taken(replaced)
	t.low = min(t.low, int(from))
	return replaced, true
}

// has reports whether a descriptor stands for the endpoint.
func (t *descriptors) has(p *stream.Endpoint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.slots, func(d *descriptor) bool { return d != nil && d.endpoint == p })
}

// all returns what is in the table.
func (t *descriptors) all() (ds []*descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.slots {
		if d != nil {
			ds = append(ds, d)
		}
	}
	return ds
}
