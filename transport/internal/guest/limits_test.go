package guest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"waterproxy/transport/internal/stream"
)

// TestTransferIsBounded: vectors may all describe the same memory, so its size
// says nothing about how much a call would move.
func TestTransferIsBounded(t *testing.T) {
	c := newCall(t, stream.Posix)
	for i := range uint32(maxIOVecs) {
		c.mem.WriteUint64Le(i*8, 60<<10<<32) // at 0
	}
	bufs, e := c.iovecs(0, maxIOVecs)
	if e != eSuccess {
		t.Fatalf("error %d", e)
	}
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	if total != maxTransfer {
		t.Errorf("%d bytes in one call, want %d", total, maxTransfer)
	}
	if _, e := c.iovecs(0, maxIOVecs+1); e != eInval {
		t.Errorf("too many vectors: error %d", e)
	}
}

// TestClosedConnectionsCount: what the module has closed is the host's to drain, and
// counts as long as its peer has not ended it.
func TestClosedConnectionsCount(t *testing.T) {
	c := newCall(t, stream.Posix)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var far []net.Conn
	for range c.in.o.Limits.Descriptors {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		far = append(far, peer)
		p := stream.NewEndpoint(stream.Open(near), stream.Posix)
		t.Cleanup(func() { p.Close() })
		fd, err := c.in.addEndpoint(p)
		if err != nil {
			t.Fatal(err)
		}
		if e := fdClose(c, []uint64{uint64(fd)}); e != eSuccess {
			t.Fatalf("close: error %d", e)
		}
	}
	dialed := 0
	c.in.o.Host = hostFuncs{dial: func() (net.Conn, error) { dialed++; return nil, errors.New("dialed") }}
	stack := []uint64{0}
	waterDialFixed(c, stack)
	var limit *LimitError
	if err := c.in.hostErr.Load(); err == nil || !errors.As(*err, &limit) || dialed > 0 {
		t.Errorf("error %v after %d dials, want a LimitError and none", err, dialed)
	}
	for _, peer := range far {
		peer.Close()
	}
	for end := time.Now().Add(time.Minute); dialed == 0 && time.Now().Before(end); { // the ends arrive
		waterDialFixed(c, stack)
	}
	if dialed != 1 {
		t.Errorf("%d dials when the peers have ended the connections, want 1", dialed)
	}
}

// TestLateConnectionIsClosed: the host's dial may succeed after the instance was
// stopped.
func TestLateConnectionIsClosed(t *testing.T) {
	c := newCall(t, stream.Posix)
	near, far := net.Pipe()
	c.in.o.Host = hostFuncs{dial: func() (net.Conn, error) { c.in.Abort(nil); return near, nil }}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the module goes on after it was stopped")
			}
		}()
		waterDialFixed(c, []uint64{0})
	}()
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

// hostFuncs is a Host with one way to connect.
type hostFuncs struct{ dial func() (net.Conn, error) }

func (h hostFuncs) Dial(context.Context, string, string) (net.Conn, error) { return h.dial() }
func (h hostFuncs) DialFixed(context.Context) (net.Conn, error)            { return h.dial() }
func (h hostFuncs) Accept(context.Context) (net.Conn, error)               { return h.dial() }
