package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"waterproxy/transport/internal/stream"
	"waterproxy/transport/internal/wasmfile"
)

// refusing is a Host that grants nothing.
type refusing struct{}

var errRefusing = errors.New("this host grants nothing")

func (refusing) Dial(context.Context, string, string) (net.Conn, error) { return nil, errRefusing }
func (refusing) DialFixed(context.Context) (net.Conn, error)            { return nil, errRefusing }
func (refusing) Accept(context.Context) (net.Conn, error)               { return nil, errRefusing }

// FuzzHostFunctions calls any function of the host with any arguments and any content of
// the module's memory, several in a row. Each returns, or ends the instance; none has a
// fault of its own.
func FuzzHostFunctions(f *testing.F) {
	var all []hostFunc
	for _, name := range slices.Sorted(maps.Keys(hostModules)) {
		if name != wasmfile.FutexModule { // modules with a shared memory alone get it
			all = append(all, hostModules[name]...)
		}
	}
	for i := range all {
		f.Add([]byte{byte(i), 4, 0, 16, 1, 0, 32, 8, 3}, []byte{0, 16, 0, 0, 100})
	}
	f.Add([]byte{1, 255, 255, 255, 255, 255}, []byte("/state/x"))
	state := f.TempDir()
	f.Fuzz(func(t *testing.T, calls, memory []byte) {
		c := newCall(t, stream.Posix)
		root, err := os.OpenRoot(state)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		c.in.o.Host, c.in.o.State = refusing{}, root
		c.put(4096, memory[:min(len(memory), 32<<10)])
		for range 2 {
			_, far := c.connect(t)
			defer far.Close()
		}
		// What waits is ended, as a session's end ends it.
		timer := time.AfterFunc(20*time.Millisecond, func() { c.in.Abort(errRefusing) })
		defer timer.Stop()
		defer func() {
			if r := recover(); r != nil {
				if fault, ok := r.(runtime.Error); ok {
					t.Fatalf("a fault of the host: %v", fault)
				}
			}
		}()
		for range 8 {
			if len(calls) == 0 {
				return
			}
			fn := all[int(calls[0])%len(all)]
			calls = calls[1:]
			stack := make([]uint64, max(len(fn.params), 1))
			for i := range fn.params {
				stack[i], calls = argument(calls)
				if fn.params[i] == i32 {
					stack[i] = uint64(uint32(stack[i]))
				}
			}
			fn.call(c, stack)
		}
	})
}

// argument takes a number from the input: most are small, or close to the places of
// memory that have something.
func argument(b []byte) (uint64, []byte) {
	switch {
	case len(b) == 0:
		return 0, nil
	case b[0] < 32:
		return uint64(b[0]), b[1:]
	case b[0] < 200:
		return 4096 + uint64(b[0]-32)*64, b[1:]
	case len(b) < 9:
		return uint64(int64(int8(b[0]))), b[1:]
	}
	return binary.LittleEndian.Uint64(b[1:9]), b[9:]
}
