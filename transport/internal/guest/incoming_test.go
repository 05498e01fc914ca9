package guest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestIncomingKept: a connection from the network is left to the caller if it fails by
// anything but the module's decision, also at the moment at which it would be the
// module's.
func TestIncomingKept(t *testing.T) {
	killed := errors.New("killed by the test")
	for name, test := range map[string]struct {
		before, after func(*Conn)
		kept          bool
	}{
		"killed before the module has it": {before: func(c *Conn) { c.Abort(killed) }, kept: true},
		"killed after that":               {after: func(c *Conn) { c.Abort(killed) }, kept: true},
		"failed by the module":            {after: func(c *Conn) { c.end(&FailError{}, false) }},
		"closed by the module":            {after: func(c *Conn) { c.end(nil, false) }},
	} {
		m := &Many{Instance: newInstance(context.Background(), &Module{shape: &Shape{ABI: abis[0]}}, Options{
			Limits: Limits{Descriptors: 8, Conns: 1},
		})}
		m.conns = map[uint32]*Conn{}
		near, far := net.Pipe()
		defer near.Close()
		c := m.NewConn(ConnOptions{})
		if test.before != nil {
			test.before(c)
		}
		if test.after != nil {
			go func() {
				for len(m.fds.all()) == 0 {
					time.Sleep(time.Millisecond)
				}
				test.after(c)
			}()
		}
		peer := NewPeer(far)
		kept, err := c.Incoming(context.Background(), peer)
		if err == nil || kept != test.kept {
			t.Errorf("%s: it is kept: %v, and %v", name, kept, err)
		}
		patience := time.Minute
		if test.kept { // nothing is to come
			patience = 50 * time.Millisecond
		}
		near.SetReadDeadline(time.Now().Add(patience))
		if _, err := near.Read(make([]byte, 1)); (err == nil || isTimeout(err)) != test.kept {
			t.Errorf("%s: its peer sees %v", name, err)
		}
		if kept {
			peer.Close()
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
