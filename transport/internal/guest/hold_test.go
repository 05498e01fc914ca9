package guest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"waterproxy/transport/internal/stream"
)

// accepting is a host with one connection from the network, and something that
// happens before the module gets it.
type accepting struct {
	Host
	conn   net.Conn
	before func()
}

func (h accepting) Accept(context.Context) (net.Conn, error) {
	h.before()
	return h.conn, nil
}

// TestHold: a connection from the network is held if it fails by anything but the
// module's decision, also at the moment at which it would be the module's.
func TestHold(t *testing.T) {
	killed := errors.New("killed by the test")
	for name, test := range map[string]struct {
		before, after func(*Conn)
		held          bool
	}{
		"killed before the module has it": {before: func(c *Conn) { c.Kill(killed) }, held: true},
		"killed after that":               {after: func(c *Conn) { c.Kill(killed) }, held: true},
		"failed by the module":            {after: func(c *Conn) { c.end(&FailError{}, false) }},
		"closed by the module":            {after: func(c *Conn) { c.end(nil, false) }},
	} {
		m := &Many{Instance: newInstance(context.Background(), &Module{shape: &Shape{ABI: abis[0]}}, Options{
			Limits: Limits{Descriptors: 8, Conns: 1},
		})}
		m.conns = map[uint32]*Conn{}
		near, far := net.Pipe()
		defer near.Close()
		held := make(chan *stream.Port, 2)
		var c *Conn
		c = m.NewConn(ConnOptions{
			Hold: func(p *stream.Port) { held <- p },
			Host: accepting{conn: far, before: func() {
				if test.before != nil {
					test.before(c)
				}
			}},
		})
		if test.after != nil {
			go func() {
				for len(m.fds.all()) == 0 {
					time.Sleep(time.Millisecond)
				}
				test.after(c)
			}()
		}
		if err := c.Incoming(context.Background()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := len(held) == 1; got != test.held || len(held) > 1 {
			t.Errorf("%s: it is held %d times", name, len(held))
		}
		patience := time.Minute
		if test.held { // nothing is to come
			patience = 50 * time.Millisecond
		}
		near.SetReadDeadline(time.Now().Add(patience))
		if _, err := near.Read(make([]byte, 1)); (err == nil || isTimeout(err)) != test.held {
			t.Errorf("%s: its peer sees %v", name, err)
		}
		for len(held) > 0 {
			(<-held).Close()
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
