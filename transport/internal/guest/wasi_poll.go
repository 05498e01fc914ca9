package guest

import (
	"encoding/binary"
	"time"

	"waterproxy/transport/internal/stream"
)

var pollFuncs = []hostFunc{
	wasiFunc("poll_oneoff", pollOneoff, i32, i32, i32, i32),
}

// Layout of WASI preview 1 subscriptions and events.
const (
	subscriptionSize = 48
	eventSize        = 32

	eventClock = 0
	eventRead  = 1
	eventWrite = 2

	clockRealtime  = 0
	clockMonotonic = 1

	clockAbsolute = 1

	// maxSubscriptions bounds one call: two directions of every descriptor.
	maxSubscriptions = 1 << 16
)

// settleAfter is how long a module whose polls carry a clock may sit idle before
// it counts as having nothing more to write (see Instance.settle).
const settleAfter = time.Second

// poll is one call of poll_oneoff.
type poll struct {
	*call
	subs   []byte
	events []byte // room for as many events
	n      int    // events so far
	began  time.Time
	clock  bool      // there is a clock among the subscriptions
	until  time.Time // the earliest clock
}

// poll_oneoff(in, out, nsubscriptions, nevents)
func pollOneoff(c *call, a []uint64) errno {
	n := a[2]
	if n == 0 || n > maxSubscriptions {
		return eInval
	}
	subs, e := c.bytes(a[0], n*subscriptionSize)
	if e != eSuccess {
		return e
	}
	events, e := c.bytes(a[1], n*eventSize)
	if e != eSuccess {
		return e
	}
	p := poll{call: c, subs: subs, events: events, began: time.Now()}
	if e := p.readClocks(); e != eSuccess {
		return e
	}
	p.run()
	return c.put32(a[3], uint32(p.n))
}

// each calls f with every subscription.
func (p *poll) each(f func(sub []byte, kind byte)) {
	for s := p.subs; len(s) > 0; s = s[subscriptionSize:] {
		f(s[:subscriptionSize], s[8])
	}
}

// readClocks finds the earliest time at which the call must end.
func (p *poll) readClocks() (e errno) {
	p.each(func(sub []byte, kind byte) {
		switch kind {
		case eventRead, eventWrite:
		case eventClock:
			if id := binary.LittleEndian.Uint32(sub[16:]); id != clockRealtime && id != clockMonotonic {
				e = eInval
			}
			if t := p.strikes(sub); !p.clock || t.Before(p.until) {
				p.clock, p.until = true, t
			}
		default:
			e = eInval
		}
	})
	return e
}

// strikes returns when a clock subscription fires.
func (p *poll) strikes(sub []byte) time.Time {
	ns := binary.LittleEndian.Uint64(sub[24:])
	if binary.LittleEndian.Uint16(sub[40:])&clockAbsolute != 0 {
		base := clockNow(binary.LittleEndian.Uint32(sub[16:]), p.began)
		ns -= min(ns, base)
	}
	return p.began.Add(duration(ns))
}

// duration converts nanoseconds; what does not fit is as good as for ever.
func duration(ns uint64) time.Duration {
	const forever = 100 * 365 * 24 * time.Hour
	return time.Duration(min(ns, uint64(forever)))
}

// run fills in the events, waiting until there is one.
func (p *poll) run() {
	p.in.flush()
	looked := false
	for {
		p.checkDescriptors()
		now := time.Now()
		struck := p.struck(now)
		if !looked && (p.n > 0 || struck) { // a call that does not wait
			looked = true
			p.waiter.Look()
			if p.n == 0 {
				continue
			}
		}
		if p.n > 0 {
			p.quiet = 0
			return
		}
		if struck {
			p.quiet++
		}
		if p.in.settle(p.thread, p.isQuiet(now)) {
			continue // it changed what a descriptor shows
		}
		if struck {
			p.in.activity.Add(1)
			p.fireClocks(now)
			return
		}
		p.wait()
		looked = true // Wait does
	}
}

// struck reports whether the call has to end because of the time.
func (p *poll) struck(now time.Time) bool { return p.clock && !now.Before(p.until) }

// isQuiet reports whether the module counts as having nothing more to write: it waits
// for no clock, two clocks have struck in a row, or the one that it waits for is far. A
// clock that has just struck, however late, gives it the chance to write.
func (p *poll) isQuiet(now time.Time) bool {
	return !p.clock || p.quiet >= 2 || !p.struck(now) && now.Sub(p.began) >= settleAfter
}

// checkDescriptors adds an event for each descriptor that is ready, and asks the
// others to wake this thread.
func (p *poll) checkDescriptors() {
	p.each(func(sub []byte, kind byte) {
		if kind == eventClock {
			return
		}
		dir := stream.In
		if kind == eventWrite {
			dir = stream.Out
		}
		d := p.in.fds.get(binary.LittleEndian.Uint32(sub[16:]))
		switch {
		case d == nil:
			p.add(sub, eBadf, 0)
		case d.endpoint == nil: // files and logs never block
			p.add(sub, eSuccess, 1)
		case dir == stream.In && p.in.heldBack(d.endpoint, p.waiter):
		case dir == stream.Out && p.in.knowsWritable(d):
		case dir == stream.In && !d.nonblock.Load():
			if d.endpoint.AwaitBytes(p.waiter) {
				p.add(sub, eSuccess, 1)
			}
		case d.endpoint.Await(dir, p.waiter):
			p.add(sub, eSuccess, 1)
		}
	})
}

func (p *poll) fireClocks(now time.Time) {
	p.each(func(sub []byte, kind byte) {
		if kind == eventClock && !p.strikes(sub).After(now) {
			p.add(sub, eSuccess, 0)
		}
	})
}

// add appends an event for the subscription.
func (p *poll) add(sub []byte, e errno, nbytes uint64) {
	ev := p.events[p.n*eventSize:][:eventSize]
	var out [eventSize]byte
	copy(out[:8], sub[:8])
	binary.LittleEndian.PutUint16(out[8:], uint16(e))
	out[10] = sub[8]
	binary.LittleEndian.PutUint64(out[16:], nbytes)
	copy(ev, out[:])
	p.n++
}

// wait parks the thread until a descriptor wakes it or the clock strikes. It
// may return early; run looks again.
func (p *poll) wait() {
	var until time.Time
	if p.clock {
		until = p.until
		if settled := p.began.Add(settleAfter); settled.Before(until) && time.Now().Before(settled) && p.in.someEnded() {
			until = settled
		}
	}
	p.thread.wait(until)
}
