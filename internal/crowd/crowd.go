// Package crowd bounds the connections that a server keeps while their callers may
// never send anything.
package crowd

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Crowd holds a bounded number of connections. Where there is no room for another one,
// the connection that was quiet the longest is closed, so that those who say nothing
// cannot keep out those who do. It is safe for concurrent use.
type Crowd struct {
	size  int
	grace time.Duration

	mu      sync.Mutex
	members []member      // the one that was quiet the longest comes first
	left    chan struct{} // closed and replaced when a member leaves
}

type member struct {
	conn net.Conn
	last time.Time // when it entered or was renewed
}

// New returns an empty Crowd of at most size connections. Each of them may be quiet
// for grace, however many are waiting.
func New(size int, grace time.Duration) *Crowd {
	return &Crowd{size: size, grace: grace, left: make(chan struct{})}
}

// Enter adds a connection. If there is no room it waits, no longer than grace for each that waits, until
// one leaves or may be closed.
func (c *Crowd) Enter(conn net.Conn) {
	for {
		wait, left := c.tryEnter(conn)
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-left:
		}
		timer.Stop()
	}
}

// tryEnter adds a connection, or returns how long to wait before the next attempt.
func (c *Crowd) tryEnter(conn net.Conn) (wait time.Duration, left <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) >= c.size {
		if wait := c.grace - time.Since(c.members[0].last); wait > 0 {
			return wait, c.left
		}
		_ = c.members[0].conn.Close() // its server sees that it is closed
		c.members = slices.Delete(c.members, 0, 1)
	}
	c.members = append(c.members, member{conn, time.Now()})
	return 0, nil
}

// Renew makes a connection the last to be closed. It has no effect on one that is
// not in the Crowd.
func (c *Crowd) Renew(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remove(conn) {
		c.members = append(c.members, member{conn, time.Now()})
	}
}

// Leave makes room. It has no effect on a connection that is not in the Crowd.
func (c *Crowd) Leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remove(conn) {
		close(c.left)
		c.left = make(chan struct{})
	}
}

// remove reports whether the connection was a member. The lock is held.
func (c *Crowd) remove(conn net.Conn) bool {
	i := slices.IndexFunc(c.members, func(m member) bool { return m.conn == conn })
	if i >= 0 {
		c.members = slices.Delete(c.members, i, i+1)
	}
	return i >= 0
}
