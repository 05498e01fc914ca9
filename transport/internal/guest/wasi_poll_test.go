package guest

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"waterproxy/transport/internal/stream"
	"waterproxy/transport/internal/wasmfile"
)

// Where the tests put things in memory.
const (
	subsAt   = 0
	eventsAt = 4096
	countAt  = 8192
)

// newCall returns a host call of an instance that has a memory and no code.
func newCall(t *testing.T, mode stream.Mode) *call {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() { rt.Close(ctx) })
	m, err := rt.Instantiate(ctx, []byte("\x00asm\x01\x00\x00\x00"+ // a memory m and the stop switch
		"\x05\x03\x01\x00\x01\x06\x06\x01\x7f\x01\x41\x00\x0b\x07\x17\x02\x01m\x02\x00\x0f"+wasmfile.StopGlobal+"\x03\x00"))
	if err != nil {
		t.Fatal(err)
	}
	poller, err := stream.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	in := newInstance(ctx, &Module{shape: &Shape{ABI: abis[0], Posix: mode == stream.Posix}},
		Options{Logger: slog.New(slog.DiscardHandler), Limits: Limits{Descriptors: 16}})
	in.openStandard()
	in.poller, in.main.waiter = poller, poller
	in.main.stop = m.ExportedGlobal(wasmfile.StopGlobal).(api.MutableGlobal)
	in.threads.add(in.main)
	t.Cleanup(func() {
		in.Abort(nil)
		if err := poller.Close(); err != nil {
			t.Error(err)
		}
	})
	return &call{thread: in.main, mem: m.Memory()}
}

// connect gives the instance a non-blocking pipe.
func (c *call) connect(t *testing.T) (fd uint32, far *stream.PipeConn) {
	t.Helper()
	near, far := stream.NewPipe()
	n, err := c.in.addEndpoint(stream.NewEndpoint(near, c.in.mode))
	if err != nil {
		t.Fatal(err)
	}
	c.in.fds.get(uint32(n)).nonblock.Store(true)
	return uint32(n), far
}

type subscription struct {
	kind    byte
	fd      uint32 // or the clock
	timeout uint64
	flags   uint16
}

// poll calls poll_oneoff and returns the kinds and errors of the events, by the
// place of their subscription.
func (c *call) poll(t *testing.T, subs ...subscription) map[int]errno {
	t.Helper()
	for i, s := range subs {
		var b [subscriptionSize]byte
		binary.LittleEndian.PutUint64(b[0:], uint64(i))
		b[8] = s.kind
		binary.LittleEndian.PutUint32(b[16:], s.fd)
		binary.LittleEndian.PutUint64(b[24:], s.timeout)
		binary.LittleEndian.PutUint16(b[40:], s.flags)
		memoryOf(c).Write(uint32(subsAt+i*subscriptionSize), b[:])
	}
	if e := pollOneoff(c, []uint64{subsAt, eventsAt, uint64(len(subs)), countAt}); e != eSuccess {
		t.Fatalf("poll_oneoff: error %d", e)
	}
	n, _ := memoryOf(c).ReadUint32Le(countAt)
	events := map[int]errno{}
	for i := range n {
		b, _ := c.mem.Read(eventsAt+i*eventSize, eventSize)
		at := int(binary.LittleEndian.Uint64(b))
		if b[10] != subs[at].kind {
			t.Errorf("event %d is of kind %d, subscription %d of kind %d", i, b[10], at, subs[at].kind)
		}
		events[at] = errno(binary.LittleEndian.Uint16(b[8:]))
	}
	return events
}

func read(fd uint32) subscription  { return subscription{kind: eventRead, fd: fd} }
func write(fd uint32) subscription { return subscription{kind: eventWrite, fd: fd} }
func after(d time.Duration) subscription {
	return subscription{kind: eventClock, fd: clockMonotonic, timeout: uint64(d)}
}

func only(t *testing.T, got map[int]errno, want ...int) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("events %v, want those of %v", got, want)
	}
	for _, at := range want {
		if e, ok := got[at]; !ok || e != eSuccess {
			t.Errorf("events %v, want those of %v", got, want)
		}
	}
}

func TestPollDescriptors(t *testing.T) {
	c := newCall(t, stream.Posix)
	a, farA := c.connect(t)
	b, _ := c.connect(t)
	only(t, c.poll(t, read(a), read(b), write(b)), 2)
	only(t, c.poll(t, read(a), after(time.Millisecond)), 1)
	if _, err := farA.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	only(t, c.poll(t, after(time.Hour), read(a), read(b)), 1)
	only(t, c.poll(t, read(0), write(1), write(2)), 0, 1, 2) // these never block

	got := c.poll(t, read(99), read(b))
	if len(got) != 1 || got[0] != eBadf {
		t.Errorf("a descriptor that is not open: %v", got)
	}
}

// TestPollWakes waits before there is something to wait for.
func TestPollWakes(t *testing.T) {
	for _, mode := range []stream.Mode{stream.Posix, stream.Careful} {
		c := newCall(t, mode)
		a, _ := c.connect(t)
		b, far := c.connect(t)
		go far.Write([]byte("x"))
		only(t, c.poll(t, read(a), read(b), after(time.Minute)), 1)
	}
}

func TestPollClocks(t *testing.T) {
	c := newCall(t, stream.Posix)
	const wait = 15 * time.Millisecond
	for name, sub := range map[string]func() subscription{
		"relative":           func() subscription { return after(wait) },
		"relative, realtime": func() subscription { return subscription{kind: eventClock, fd: clockRealtime, timeout: uint64(wait)} },
		"absolute": func() subscription {
			return subscription{kind: eventClock, fd: clockMonotonic, timeout: clockNow(clockMonotonic, time.Now()) + uint64(wait), flags: clockAbsolute}
		},
		"absolute, realtime": func() subscription {
			return subscription{kind: eventClock, fd: clockRealtime, timeout: clockNow(clockRealtime, time.Now()) + uint64(wait), flags: clockAbsolute}
		},
	} {
		began := time.Now()
		only(t, c.poll(t, after(time.Hour), sub()), 1)
		if took := time.Since(began); took < wait {
			t.Errorf("%s: returned after %v, before %v", name, took, wait)
		}
	}
	past := subscription{kind: eventClock, fd: clockMonotonic, timeout: 1, flags: clockAbsolute}
	only(t, c.poll(t, past, after(0), after(time.Hour)), 0, 1)
}

func TestPollBadInput(t *testing.T) {
	c := newCall(t, stream.Posix)
	for name, args := range map[string][]uint64{
		"no subscriptions":       {subsAt, eventsAt, 0, countAt},
		"too many subscriptions": {subsAt, eventsAt, maxSubscriptions + 1, countAt},
	} {
		if e := pollOneoff(c, args); e != eInval {
			t.Errorf("%s: error %d", name, e)
		}
	}
	for name, args := range map[string][]uint64{
		"subscriptions outside memory": {pageSizeOfTests - 8, eventsAt, 1, countAt},
		"events outside memory":        {subsAt, pageSizeOfTests - 8, 1, countAt},
		"count outside memory":         {subsAt, eventsAt, 1, pageSizeOfTests - 2},
		"sizes that wrap around":       {subsAt, eventsAt, maxSubscriptions, countAt},
	} {
		memoryOf(c).Write(subsAt, make([]byte, subscriptionSize)) // a clock of 0
		if e := pollOneoff(c, args); e != eFault {
			t.Errorf("%s: error %d", name, e)
		}
	}
	memoryOf(c).WriteByte(subsAt+8, 7)
	if e := pollOneoff(c, []uint64{subsAt, eventsAt, 1, countAt}); e != eInval {
		t.Errorf("unknown kind: error %d", e)
	}
}

const pageSizeOfTests = 64 << 10

// TestPollWritableOnce is for modules that ask about writing in every poll: they
// would never sleep if a Careful module's endpoint said each time that it is ready.
func TestPollWritableOnce(t *testing.T) {
	c := newCall(t, stream.Careful)
	a, far := c.connect(t)
	only(t, c.poll(t, write(a), read(a), after(time.Hour)), 0)
	only(t, c.poll(t, write(a), read(a), after(time.Millisecond)), 2)
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	got := c.poll(t, write(a), read(a), after(time.Hour))
	if _, ok := got[1]; !ok {
		t.Errorf("events %v, want that of the read", got)
	}
}

// TestPollLooks: a poll that does not wait, or not for that socket, finds what is ready.
func TestPollLooks(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, subs := range map[string][]subscription{
		"a clock that has struck": {after(0)},
		"a clock that strikes":    {after(time.Millisecond)},
		"something that is ready": {write(1)},
	} {
		t.Run(name, func(t *testing.T) {
			near, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			far, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			c := newCall(t, stream.Posix)
			p := stream.NewEndpoint(stream.Open(near), stream.Posix)
			defer p.Close()
			if _, err := c.in.addEndpoint(p); err != nil {
				t.Fatal(err)
			}
			woken := stream.NewSignal()
			if p.Await(stream.In, woken) {
				t.Fatal("ready for nothing")
			}
			if _, err := far.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			for len(woken) == 0 { // as soon as the kernel has carried it
				c.poll(t, subs...)
			}
		})
	}
}

func TestPollEndsWithInstance(t *testing.T) {
	c := newCall(t, stream.Posix)
	a, _ := c.connect(t)
	ended := make(chan any)
	go func() {
		defer func() { ended <- recover() }()
		c.poll(t, read(a))
	}()
	c.in.Abort(nil)
	select {
	case r := <-ended:
		if r == nil {
			t.Error("the poll returned to a module that was stopped")
		}
	case <-time.After(time.Minute):
		t.Fatal("the poll goes on")
	}
}

// memoryOf returns all that can be done with the memory that newCall made.
func memoryOf(c *call) api.Memory { return c.mem.(api.Memory) }

// A module that holds bytes back until a clock strikes gets to write them, however late
// the machine is: until then nothing is taken as its end.
func TestClockThatStrikesLate(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, test := range []struct {
		what  string
		poll  poll
		clock int // that have struck in a row
		want  bool
	}{
		{"no clock", poll{began: now}, 0, true},
		{"a clock to come", poll{began: now, clock: true, until: now.Add(time.Minute)}, 0, false},
		{"a clock that is far", poll{began: ago(settleAfter), clock: true, until: now.Add(time.Minute)}, 0, true},
		{"a clock that struck", poll{began: ago(time.Millisecond), clock: true, until: now}, 1, false},
		{"a clock that struck long ago", poll{began: ago(time.Hour), clock: true, until: ago(time.Minute)}, 1, false},
		{"two clocks that struck", poll{began: ago(time.Millisecond), clock: true, until: now}, 2, true},
	} {
		p := test.poll
		p.call = &call{thread: &thread{quiet: test.clock}}
		if got := p.isQuiet(now); got != test.want {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}
