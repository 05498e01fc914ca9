package guest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tetratelabs/wazero/api"

	"waterproxy/transport/internal/wasmfile"
)

// futex holds the threads of an instance that wait at an address of their memory
// (memory.atomic.wait32 and wait64), in the order in which they came.
type futex struct {
	mu      sync.Mutex
	waiting map[uint32][]*thread
}

// What an instruction that waits returns.
const (
	waitNotified = 0
	waitNotEqual = 1
	waitTimedOut = 2
)

// futexFuncs stand in for the instructions of those names, and for a checkpoint: see
// wasmfile.ShareMemory.
var futexFuncs = []hostFunc{
	{wasmfile.Wait32, []api.ValueType{i32, i32, i64, i32}, true, func(c *call, a []uint64) {
		p := (*uint32)(c.word(a[0], a[3], 4))
		a[0] = c.waitAt(uint32(a[0]+a[3]), a[2], func() bool { return atomic.LoadUint32(p) == uint32(a[1]) })
	}},
	{wasmfile.Wait64, []api.ValueType{i32, i64, i64, i32}, true, func(c *call, a []uint64) {
		p := (*uint64)(c.word(a[0], a[3], 8))
		a[0] = c.waitAt(uint32(a[0]+a[3]), a[2], func() bool { return atomic.LoadUint64(p) == a[1] })
	}},
	{wasmfile.Notify, []api.ValueType{i32, i32, i32}, true, func(c *call, a []uint64) {
		c.word(a[0], a[2], 4)
		a[0] = uint64(c.in.shared.futex.notify(uint32(a[0]+a[2]), uint32(a[1])))
	}},
	{wasmfile.Checkpoint, nil, true, func(c *call, a []uint64) { c.in.threads.beat(c.thread, aStretch) }},
}

var (
	errUnaligned   = errors.New("unaligned atomic")
	errOutOfBounds = errors.New("out of bounds memory access")
)

// word returns the word at an address, or ends the call with a trap.
func (c *call) word(address, offset, size uint64) unsafe.Pointer {
	at, used := address+offset, c.in.shared.used()
	switch {
	case at%size != 0:
		panic(errUnaligned)
	case at+size > uint64(len(used)):
		panic(errOutOfBounds)
	}
	return unsafe.Pointer(&used[at])
}

// waitAt waits until another thread notifies this one at the address, if the word
// there is equal to what the module expects. A negative time-out (in nanoseconds)
// is none.
func (t *thread) waitAt(at uint32, timeout uint64, equal func() bool) uint64 {
	f := &t.in.shared.futex
	f.mu.Lock()
	if !equal() {
		f.mu.Unlock()
		return waitNotEqual
	}
	if f.waiting == nil {
		f.waiting = map[uint32][]*thread{}
	}
	f.waiting[at] = append(f.waiting[at], t)
	f.mu.Unlock()
	var until time.Time
	if int64(timeout) >= 0 {
		until = time.Now().Add(duration(timeout))
	}
	for !t.notified.Swap(false) {
		switch {
		case t.in.alive() != nil:
			f.leave(at, t)
			t.in.checkAlive()
		case !until.IsZero() && !time.Now().Before(until):
			if f.leave(at, t) {
				return waitTimedOut
			} // else it was notified at the last moment
		default:
			t.aboutToWait()
			t.waiter.Wait(until)
		}
	}
	return waitNotified
}

// leave reports whether the thread was still waiting.
func (f *futex) leave(at uint32, t *thread) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.waiting[at], t)
	if i < 0 {
		return false
	}
	f.keep(at, slices.Delete(f.waiting[at], i, i+1))
	return true
}

// notify wakes up to count threads at an address, and returns how many.
func (f *futex) notify(at uint32, count uint32) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	ts := f.waiting[at]
	n := min(uint64(count), uint64(len(ts)))
	for _, t := range ts[:n] {
		t.notified.Store(true)
		t.waiter.Wake()
	}
	f.keep(at, slices.Delete(ts, 0, int(n)))
	return uint32(n)
}

// keep sets who waits at an address. The lock is held.
func (f *futex) keep(at uint32, ts []*thread) {
	if len(ts) > 0 {
		f.waiting[at] = ts
	} else {
		delete(f.waiting, at)
	}
}
