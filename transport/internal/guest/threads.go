package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"waterproxy/transport/internal/stream"
	"waterproxy/transport/internal/wasmfile"
)

// thread is one line of execution inside an instance, with what a host call
// needs at hand. It has a wazero instance of its own: its globals and tables are
// not those of other threads, but the memory and the descriptors are.
type thread struct {
	in       *Instance
	mod      api.Module
	stop     api.MutableGlobal
	waiter   stream.Waiter // where it waits for anything
	notified atomic.Bool   // by another thread: see futex
	quiet    int           // polls that only a clock ended since bytes last moved
	shown    bool          // the module has been shown the end of its work
	bufs     [][]byte      // scratch for iovecs
	call     call          // the host call under way, which never nests

	// For threads.awaitLeaving, of a thread besides the main one:
	inHost atomic.Bool   // it is in a host call, or has not yet begun
	beats  atomic.Uint64 // what it has done since
}

type threadKey struct{}

func newThread(in *Instance) *thread {
	t := &thread{in: in, waiter: stream.NewSleeper()}
	t.call.thread = t
	t.inHost.Store(true)
	return t
}

func (t *thread) context() context.Context {
	return context.WithValue(context.Background(), threadKey{}, t)
}

// instantiate readies a thread to run the module's code, and runs the module's
// start function in it.
func (in *Instance) instantiate(t *thread) (err error) {
	ctx := t.context()
	if in.shared != nil {
		ctx = experimental.WithImportResolver(ctx, in.shared.resolve)
	} else {
		ctx = experimental.WithMemoryAllocator(ctx, &in.memory)
	}
	cfg := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithSysWalltime().
		WithSysNanotime().
		WithSysNanosleep().
		WithOsyield(runtime.Gosched)
	t.mod, err = in.module.engine.rt.InstantiateModule(ctx, in.module.compiled, cfg)
	if err != nil {
		return in.failure("instantiate", err)
	}
	stop, ok := t.mod.ExportedGlobal(wasmfile.StopGlobal).(api.MutableGlobal)
	if !ok {
		return &BrokenError{"stop switch", "is missing"}
	}
	t.stop = stop
	in.threads.add(t)
	if err := in.alive(); err != nil { // Abort may have come before the switch was there
		return err
	}
	return t.begin(wasmfile.StartFunction)
}

// begin runs one of the functions that come first, if it is there. A command-like
// module may end it with an exit of 0.
func (t *thread) begin(name string) error {
	f := t.mod.ExportedFunction(name)
	if f == nil {
		return nil
	}
	var exit *sys.ExitError
	if _, err := f.Call(t.context()); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 0) {
		return t.in.failure(name, err)
	}
	return nil
}

// invoke calls an export that the module has.
func (t *thread) invoke(name string, args ...uint64) ([]uint64, error) {
	if err := t.in.alive(); err != nil {
		return nil, err
	}
	t.inHost.Store(false)
	out, err := t.mod.ExportedFunction(name).Call(t.context(), args...)
	if err != nil {
		return nil, t.in.failure(name, err)
	}
	return out, nil
}

// close frees what the thread has for itself.
func (t *thread) close() {
	t.in.threads.remove(t)
	if t.mod != nil {
		// The error would be that of a file system we do not use.
		_ = t.mod.Close(context.Background())
	}
}

// aboutToWait is called before the thread waits for anything but poll_oneoff. If
// the connection is being closed, a module with threads has to learn when what
// the caller wrote has left, although none of them may be in a poll.
func (t *thread) aboutToWait() {
	if t.in.shared != nil && t.in.closing.Load() {
		t.in.settle(t, true)
	}
}

// threads are those of an instance.
type threads struct {
	mu      sync.Mutex
	running []*thread // those that can be stopped
	counted []*thread // besides the main one, until nothing is left of them
	lastID  uint32
	stopped bool
	changed *sync.Cond // counted, stopped, and signs of life while asking is not 0

	asking atomic.Int32   // calls of awaitLeaving
	group  sync.WaitGroup // of counted
}

func (ts *threads) init() { ts.changed = sync.NewCond(&ts.mu) }

func (ts *threads) add(t *thread) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.running = append(ts.running, t)
}

func (ts *threads) remove(t *thread) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.running = slices.DeleteFunc(ts.running, func(other *thread) bool { return other == t })
}

// count returns how many threads there are, the main one included.
func (ts *threads) count() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return 1 + len(ts.counted)
}

// stop sets the stop switch of each thread, and wakes those that wait.
func (ts *threads) stop() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.running {
		t.stop.Set(1)
		t.waiter.Wake()
	}
	ts.stopped = true
	ts.changed.Broadcast()
}

// wait waits for those that were started.
func (ts *threads) wait() { ts.group.Wait() }

// wake has the threads that wait for a descriptor look again.
func (ts *threads) wake() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.running {
		t.waiter.Wake()
	}
}

// maxThreadID is that of wasi-threads.
const maxThreadID = 1<<29 - 1

// reserve counts one more thread and gives it a number. At the limit it waits for
// those that are on their way out.
func (ts *threads) reserve(t *thread, limit int) (id uint32, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.counted) >= limit {
		ts.awaitLeaving(limit)
	}
	if ts.stopped || len(ts.counted) >= limit {
		return 0, &LimitError{"threads", limit}
	}
	ts.counted = append(ts.counted, t)
	ts.lastID = ts.lastID%maxThreadID + 1
	return ts.lastID, nil
}

func (ts *threads) unreserve(t *thread) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.counted = slices.DeleteFunc(ts.counted, func(o *thread) bool { return o == t })
	ts.changed.Broadcast()
}

// Signs of life, in beats. So many show that a thread goes on:
const (
	goesOn   = 2
	aCall    = goesOn // a host call has begun
	aStretch = 1      // a checkpoint has come: some thousand loops and calls
)

// awaitLeaving waits until there is room for a thread, or until each that counts has
// shown that it goes on. The lock is held.
//
// A module knows that a thread has ended by what the thread leaves in memory, as
// pthread_join does, and that is some instructions before the host knows. Such a
// thread neither waits nor asks the host for anything but to notify others, nor is
// it at work for long. So a thread that is in a host call, or makes one, or comes to
// two checkpoints, had not ended. Every thread does one of this or ends, however
// little of the processor it gets, which is why no time has to be set for it.
func (ts *threads) awaitLeaving(limit int) {
	ts.asking.Add(1)
	defer ts.asking.Add(-1)
	leaving := map[*thread]uint64{} // those that may be, with their beats
	for _, t := range ts.counted {
		leaving[t] = t.beats.Load()
	}
	for !ts.stopped && len(ts.counted) >= limit {
		maps.DeleteFunc(leaving, func(t *thread, before uint64) bool {
			return t.inHost.Load() || t.beats.Load()-before >= goesOn || !slices.Contains(ts.counted, t)
		})
		if len(leaving) == 0 {
			return
		}
		ts.changed.Wait()
	}
}

// beat notes a sign of life of a thread.
func (ts *threads) beat(t *thread, beats uint64) {
	t.beats.Add(beats)
	if ts.asking.Load() > 0 {
		ts.mu.Lock()
		ts.changed.Broadcast()
		ts.mu.Unlock()
	}
}

// spawn runs work in a new thread. Whatever goes wrong there ends the instance.
func (in *Instance) spawn(work func(t *thread, id uint32) error) (id uint32, err error) {
	if !in.hasRoom(in.module.threadCost()) {
		return 0, &LimitError{"bytes of memory", int(in.o.Limits.Memory)}
	}
	t := newThread(in)
	id, err = in.threads.reserve(t, in.o.Limits.Threads)
	if err != nil {
		return 0, err
	}
	in.threads.group.Go(func() {
		defer in.threads.unreserve(t)
		defer t.close()
		err := in.instantiate(t)
		if err == nil {
			err = work(t, id)
		}
		if err != nil {
			in.Abort(err)
		}
	})
	return id, nil
}

// thread-spawn(start_arg) -> thread ID (wasi-threads)
func threadSpawn(c *call, stack []uint64) {
	arg := stack[0]
	id, err := c.in.spawn(func(t *thread, id uint32) error {
		_, err := t.invoke(threadStart, uint64(id), arg)
		return err
	})
	if err != nil {
		c.in.checkAlive()
		stack[0] = eAgain.negative()
		return
	}
	stack[0] = uint64(id)
}

// startWorkers starts the background workers that the module asks for.
func (in *Instance) startWorkers() error {
	if !in.shape.Workers {
		return nil
	}
	n, err := in.call(in.shape.ABI.workers)
	if err != nil {
		return err
	}
	if int(n) > in.o.Limits.Threads {
		return &LimitError{"threads", in.o.Limits.Threads}
	}
	for i := range uint64(n) {
		_, err := in.spawn(func(t *thread, _ uint32) error {
			name := in.shape.ABI.work.name
			out, err := t.invoke(name, i)
			if err != nil {
				return err
			}
			if r := int32(uint32(out[0])); r < 0 {
				return in.failed(fmt.Sprintf("%s(%d)", name, i), r)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
