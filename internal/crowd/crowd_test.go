package crowd

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// caller is a connection in a Crowd, seen from its other end.
type caller struct{ near, far net.Conn }

func newCaller(t *testing.T) caller {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return caller{near, far}
}

// closed reports whether the Crowd has closed the connection.
func (c caller) closed() bool { return c.far.SetDeadline(time.Time{}) != nil }

// A full Crowd closes the connection that was quiet the longest, and none before its
// grace has passed.
func TestQuietOnesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 10 * time.Second
		c := New(2, grace)
		first, second, third, fourth := newCaller(t), newCaller(t), newCaller(t), newCaller(t)
		c.Enter(first.far)
		time.Sleep(time.Second)
		c.Enter(second.far)
		c.Renew(first.far)
		begin := time.Now()
		c.Enter(third.far)
		if waited := time.Since(begin); waited != grace {
			t.Errorf("the third waited %v, want %v", waited, grace)
		}
		if !second.closed() || first.closed() || third.closed() {
			t.Errorf("closed: first %v, second %v, third %v; want the second alone", first.closed(), second.closed(), third.closed())
		}
		time.Sleep(grace)
		begin = time.Now()
		c.Enter(fourth.far)
		if waited := time.Since(begin); waited != 0 || !first.closed() || fourth.closed() {
			t.Errorf("after %v closed: first %v, fourth %v; want the first at once", waited, first.closed(), fourth.closed())
		}
	})
}

// Who leaves makes room for who waits, and is not closed.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(1, time.Hour)
		first, second := newCaller(t), newCaller(t)
		c.Enter(first.far)
		begin := time.Now()
		go func() {
			time.Sleep(time.Second)
			c.Leave(first.far)
		}()
		c.Enter(second.far)
		if waited := time.Since(begin); waited != time.Second || first.closed() {
			t.Errorf("the second waited %v, and the first is closed: %v", waited, first.closed())
		}
		c.Leave(first.far) // it is no member any more
		c.Renew(first.far)
		if len(c.members) != 1 || c.members[0].conn != second.far {
			t.Errorf("%d members", len(c.members))
		}
	})
}
