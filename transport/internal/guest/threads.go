package guest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

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
	wake     stream.Signal
	notified stream.Signal // by another thread: see futex
	timer    *time.Timer
	quiet    int      // polls that only a clock ended since bytes last moved
	shown    bool     // the module has been shown the end of its work
	bufs     [][]byte // scratch for iovecs
	call     call     // the host call under way, which never nests
}

type threadKey struct{}

func newThread(in *Instance) *thread {
	t := &thread{in: in, wake: stream.NewSignal(), notified: stream.NewSignal()}
	t.call.thread = t
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
	if err := in.alive(); err != nil { // Kill may have come before the switch was there
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
// the connection is being closed, a module with threads has to be told when what
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
	started int       // besides the main one, and have not ended
	lastID  uint32

	group sync.WaitGroup // of those
}

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

// stop sets the stop switch of each thread.
func (ts *threads) stop() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.running {
		t.stop.Set(1)
	}
}

// wait waits for those that were started.
func (ts *threads) wait() { ts.group.Wait() }

// wake has the threads that wait for a descriptor look again.
func (ts *threads) wake() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.running {
		t.wake.Wake()
	}
}

// maxThreadID is that of wasi-threads.
const maxThreadID = 1<<29 - 1

// reserve makes room for one more thread and gives it a number.
func (ts *threads) reserve(limit int) (id uint32, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.started >= limit {
		return 0, &LimitError{"threads", limit}
	}
	ts.started++
	ts.lastID = ts.lastID%maxThreadID + 1
	return ts.lastID, nil
}

func (ts *threads) unreserve() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.started--
}

// spawn runs work in a new thread. Whatever goes wrong there ends the instance.
func (in *Instance) spawn(work func(t *thread, id uint32) error) (id uint32, err error) {
	id, err = in.threads.reserve(in.o.Limits.Threads)
	if err != nil {
		return 0, err
	}
	in.threads.group.Go(func() {
		defer in.threads.unreserve()
		t := newThread(in)
		defer t.close()
		err := in.instantiate(t)
		if err == nil {
			err = work(t, id)
		}
		if err != nil {
			in.Kill(err)
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
		stack[0] = eAgain.negative()
		return
	}
	stack[0] = uint64(id)
}

// startWorkers starts the background workers that the module wants.
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
