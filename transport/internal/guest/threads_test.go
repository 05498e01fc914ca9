package guest

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"waterproxy/transport/internal/stream"
)

// TestThreadsShareDescriptors has several threads use, open and close descriptors at
// once. The race detector sees what it does to the table, the endpoints and the files.
func TestThreadsShareDescriptors(t *testing.T) {
	c := newCall(t, stream.Posix)
	shared, _ := c.connect(t)
	const directory = 3
	memoryOf(c).WriteString(60<<10, rolePath)
	if e := pathOpen(c, []uint64{directory, 0, 60 << 10, uint64(len(rolePath)), 0, rightRead, 0, 0, countAt}); e != eSuccess {
		t.Fatalf("open: error %d", e)
	}
	opened, _ := memoryOf(c).ReadUint32Le(countAt)
	var all sync.WaitGroup
	for i := range uint64(4) {
		all.Go(func() {
			// Each has its part of the memory: what threads share there is their business.
			at := i * 8 << 10
			iovecs, buffer, result := at, at+64, at+32
			c := &call{thread: newThread(c.in), mem: c.mem}
			memoryOf(c).WriteUint64Le(uint32(iovecs), buffer|16<<32)
			for range 200 {
				use := func(fd uint64) {
					fdFdstatSetFlags(c, []uint64{fd, flagNonblock})
					fdWrite(c, []uint64{fd, iovecs, 1, result})
					fdRead(c, []uint64{fd, iovecs, 1, result})
					fdSeek(c, []uint64{fd, 0, 0, result})
					fdFdstatGet(c, []uint64{fd, buffer})
				}
				use(uint64(shared))
				use(uint64(opened))
				near, _ := stream.NewPipe()
				n, ok := c.in.fds.insert(&descriptor{endpoint: stream.NewEndpoint(near, stream.Posix)})
				if !ok {
					t.Error("there is no room for a descriptor")
					return
				}
				use(uint64(n))
				if e := fdClose(c, []uint64{uint64(n)}); e != eSuccess {
					t.Errorf("close: error %d", e)
				}
			}
		})
	}
	all.Wait()
	if n, ok := c.in.fds.insert(&descriptor{}); !ok || uint32(n) != opened+1 {
		t.Errorf("the next descriptor is %d, after %d", n, opened)
	}
}

// TestThreadNumbers: a thread that has ended makes room, and numbers stay those of
// wasi-threads.
func TestThreadNumbers(t *testing.T) {
	in := newCall(t, stream.Posix).in
	ts := &in.threads
	ts.lastID = maxThreadID - 1
	first := newThread(in)
	for i, want := range []uint32{maxThreadID, 1} {
		th := first
		if i > 0 {
			th = newThread(in)
		}
		if id, err := ts.reserve(th, 2); err != nil || id != want {
			t.Errorf("thread %d, %v, want %d", id, err, want)
		}
	}
	if _, err := ts.reserve(newThread(in), 2); !errors.As(err, new(*LimitError)) {
		t.Errorf("one too many: %v", err)
	}
	ts.unreserve(first)
	if id, err := ts.reserve(newThread(in), 2); err != nil || id != 2 {
		t.Errorf("thread %d, %v", id, err)
	}
}

// TestThreadLeaves: at the limit a thread waits for one that may be on its way out,
// and is refused as soon as that has shown that it goes on.
func TestThreadLeaves(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(ts *threads, other *thread)
		refused bool
	}{
		"it ends":              {func(ts *threads, other *thread) { ts.unreserve(other) }, false},
		"it calls the host":    {func(ts *threads, other *thread) { ts.beat(other, aCall) }, true},
		"it computes":          {func(ts *threads, other *thread) { ts.beat(other, aStretch); ts.beat(other, aStretch) }, true},
		"the instance ends":    {func(ts *threads, _ *thread) { ts.stop() }, true},
		"one checkpoint, ends": {func(ts *threads, other *thread) { ts.beat(other, aStretch); ts.unreserve(other) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := newCall(t, stream.Posix).in
			ts := &in.threads
			other := newThread(in)
			if _, err := ts.reserve(other, 1); err != nil {
				t.Fatal(err)
			}
			other.inHost.Store(false) // it has begun
			result := make(chan error, 1)
			go func() {
				_, err := ts.reserve(newThread(in), 1)
				result <- err
			}()
			for ts.asking.Load() == 0 {
				select {
				case err := <-result:
					t.Fatalf("it does not wait: %v", err)
				default:
					runtime.Gosched()
				}
			}
			ts.mu.Lock() // not before it has looked at the other
			ts.mu.Unlock()
			test.happens(ts, other)
			if err := <-result; (err != nil) != test.refused {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

// TestFutex: who is notified, and in which order.
func TestFutex(t *testing.T) {
	in := newCall(t, stream.Posix).in
	in.shared = &sharedMemory{}
	f := &in.shared.futex
	const at = 64
	const never = ^uint64(0)
	always := func() bool { return true }
	results := make(chan int, 3)
	for i := range 3 {
		go func() {
			if r := newThread(in).waitAt(at, never, always); r != waitNotified {
				t.Errorf("a wait returns %d", r)
			}
			results <- i
		}()
		for end := time.Now().Add(time.Minute); f.waiters(at) <= i && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	if n := f.notify(at+4, 9); n != 0 {
		t.Errorf("%d waited at another address", n)
	}
	if n := f.notify(at, 1); n != 1 {
		t.Errorf("%d of 1 notified", n)
	}
	if first := <-results; first != 0 {
		t.Errorf("number %d came before the first", first)
	}
	if n := f.notify(at, 9); n != 2 {
		t.Errorf("%d of the other 2 notified", n)
	}
	<-results
	<-results
	if r := newThread(in).waitAt(at, 1000, always); r != waitTimedOut {
		t.Errorf("a wait with a time-out returns %d", r)
	}
	if r := newThread(in).waitAt(at, never, func() bool { return false }); r != waitNotEqual {
		t.Errorf("a wait for another value returns %d", r)
	}
	if len(f.waiting) != 0 {
		t.Errorf("%d addresses are remembered", len(f.waiting))
	}
}

// waiters returns how many threads wait at an address.
func (f *futex) waiters(at uint32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting[at])
}
