package guest

import (
	"crypto/rand"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

// processFuncs are the WASI functions about time, chance and the end of the
// program. They are ours and not wazero's so that sleeping and reading the clock agree,
// and so that an exit ends a call and not the instance: command-like modules
// exit from _start and are used afterwards. Random numbers are, because wazero does
// not expect another thread to change the size of the memory meanwhile.
var processFuncs = []hostFunc{
	wasiFunc("clock_time_get", clockTimeGet, i32, i64, i32),
	wasiFunc("clock_res_get", clockResGet, i32, i32),
	wasiFunc("random_get", randomGet, i32, i32),
	wasiFunc("sched_yield", func(*call, []uint64) errno { runtime.Gosched(); return eSuccess }),
	{"proc_exit", types(i32), false, func(_ *call, a []uint64) {
		panic(sys.NewExitError(uint32(a[0])))
	}},
}

// clockBase is the zero of the monotonic clock that modules see.
var clockBase = time.Now()

// clockNow returns what a WASI clock shows at t, in nanoseconds.
func clockNow(id uint32, t time.Time) uint64 {
	if id == clockMonotonic {
		return uint64(t.Sub(clockBase))
	}
	return uint64(t.UnixNano())
}

// clock_time_get(id, precision, time)
func clockTimeGet(c *call, a []uint64) errno {
	if id := uint32(a[0]); id != clockRealtime && id != clockMonotonic {
		return eInval
	}
	return c.put64(a[2], clockNow(uint32(a[0]), time.Now()))
}

// clock_res_get(id, resolution)
func clockResGet(c *call, a []uint64) errno {
	if id := uint32(a[0]); id != clockRealtime && id != clockMonotonic {
		return eInval
	}
	return c.put64(a[1], 1)
}

// random_get(buf, buf_len)
func randomGet(c *call, a []uint64) errno {
	b, e := c.bytes(a[0], a[1])
	if e != eSuccess {
		return e
	}
	_, _ = rand.Read(b) // it never fails
	return eSuccess
}
