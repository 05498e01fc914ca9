package stream

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// resetConn is a connection whose reset is told to a write: reading looks like a good end.
type resetConn struct {
	net.Conn
	written, read chan struct{}
}

func (c *resetConn) Write([]byte) (int, error) {
	close(c.written)
	<-c.read
	return 0, syscall.ECONNRESET
}

func (c *resetConn) Read([]byte) (int, error) {
	<-c.written
	close(c.read)
	return 0, io.EOF
}

func (c *resetConn) Close() error { return nil }

// TestResetIsNoEnd: the end of a connection on which a write fails is that failure, also if
// the end shows first.
func TestResetIsNoEnd(t *testing.T) {
	near, _ := net.Pipe()
	defer near.Close()
	c := &resetConn{near, make(chan struct{}), make(chan struct{})}
	r := openRelayed(c)
	defer r.Close()
	p := NewEndpoint(r, Posix)
	if _, err := p.Write([][]byte{[]byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := readPort(p, make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end is %v, want a reset", err)
	}
}

// TestSuspectEnd: after a failed write, an end is an error where ends are not believed.
func TestSuspectEnd(t *testing.T) {
	for _, suspect := range []bool{false, true} {
		p := NewEndpoint(&brokenStream{}, Posix)
		if suspect {
			p.SuspectEnd()
		}
		if _, err := p.Write([][]byte{[]byte("x")}); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		want := io.EOF
		if suspect {
			want = syscall.EPIPE
		}
		for range 2 {
			if _, err := p.Read([][]byte{make([]byte, 1)}); !errors.Is(err, want) {
				t.Errorf("suspect %v: the end is %v, want %v", suspect, err, want)
			}
		}
	}
}

// brokenStream fails writes, and has come to an end.
type brokenStream struct{ Stream }

func (*brokenStream) Read([][]byte) (int, error)  { return 0, io.EOF }
func (*brokenStream) Write([][]byte) (int, error) { return 0, syscall.EPIPE }
func (*brokenStream) Datagram() bool              { return false }
