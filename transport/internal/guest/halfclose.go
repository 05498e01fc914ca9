package guest

import (
	"waterproxy/transport/internal/stream"
)

// A Careful module stops at the first end of stream it sees, and has no way to
// pass on the end of one direction only. The functions here do it for the
// module: an end stays hidden until there is nothing left to carry, and
// meanwhile the host half-closes the other side.

// flush lets what the module wrote leave, because it is about to wait.
func (in *Instance) flush() {
	if in.mode == stream.Posix {
		return
	}
	in.endpointsMu.Lock()
	defer in.endpointsMu.Unlock()
	for _, p := range in.endpoints {
		p.Flush()
	}
}

// knowsWritable reports whether the module has learned that d can be written
// to, and nothing has happened since. A Careful module's writes never have to
// wait, but some ask about it in every poll (Rust's do) and would never sleep if
// they got the same answer each time.
func (in *Instance) knowsWritable(d *descriptor) bool {
	if in.mode == stream.Posix {
		return false
	}
	now := in.activity.Load()
	knows := d.known && d.knownAt == now
	d.known, d.knownAt = true, now
	return knows
}

// heldBack reports whether reads of p have to wait because too much of what the
// module wrote elsewhere has not left yet. If so, wake is called when to look
// again.
func (in *Instance) heldBack(p *stream.Endpoint, wake stream.Waker) bool {
	if in.mode == stream.Posix {
		return false
	}
	in.endpointsMu.Lock()
	defer in.endpointsMu.Unlock()
	for _, other := range in.endpoints {
		if other != p && other.Congested(wake) {
			return true
		}
	}
	return false
}

// someEnded reports whether a connection's end is being withheld.
func (in *Instance) someEnded() bool {
	if in.mode == stream.Posix {
		return false
	}
	in.endpointsMu.Lock()
	defer in.endpointsMu.Unlock()
	for _, p := range in.endpoints {
		if p.InEnded() {
			return true
		}
	}
	return false
}

// settle is called when the module waits and nothing is ready: it has dealt with
// everything it was given. quiet means that it holds no bytes back either (a
// module that also waits for a clock may do so on purpose; it counts as quiet
// after two clocks in a row, or settleAfter, without a byte). settle reports
// whether it showed the module something new.
func (in *Instance) settle(t *thread, quiet bool) (changed bool) {
	closing := in.closing.Load()
	if in.mode == stream.Posix && !closing {
		return false
	}
	endpoints := in.Endpoints()
	if in.mode == stream.Careful && quiet {
		passEnds(endpoints)
	}
	if !broken(endpoints) && !(quiet && in.finished(endpoints, closing, t.waiter)) {
		return false
	}
	if closing {
		in.sayGoodbye()
	}
	for _, p := range endpoints {
		if p.InEnded() {
			p.ShowEnd()
		}
	}
	first := !t.shown
	t.shown = true
	return first
}

// passEnds half-closes each connection for which no more bytes can come from
// any other.
func passEnds(endpoints []*stream.Endpoint) {
	for _, to := range endpoints {
		ended := len(endpoints) > 1
		for _, from := range endpoints {
			if from != to && !from.InEnded() {
				ended = false
			}
		}
		if ended {
			// A failure shows as the connection's own end.
			_ = to.CloseWrite()
		}
	}
}

// broken reports whether a connection is of no more use in either direction.
func broken(endpoints []*stream.Endpoint) bool {
	for _, p := range endpoints {
		if p.InEnded() && (p.InBroken() != nil || p.OutBroken() != nil) {
			return true
		}
	}
	return false
}

// finished reports whether the module's work is over: every connection has
// ended, or the caller is gone and what it wrote has left.
func (in *Instance) finished(endpoints []*stream.Endpoint, closing bool, wake stream.Waker) bool {
	all, left := true, true
	for _, p := range endpoints {
		all = all && p.InEnded()
		if p != in.caller && !p.OutFinished(wake) {
			left = false
		}
	}
	if all && in.mode == stream.Careful {
		return true
	}
	return closing && left && (in.caller == nil || in.caller.InEnded())
}
