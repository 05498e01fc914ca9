package watm

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// newJoin returns a join of two loopback connections, their far ends, and what ended
// gets. ended closes both, as a connection's owner does.
func newJoin(t *testing.T, wire func(net.Conn) net.Conn) (caller, peer *net.TCPConn, ended <-chan error) {
	t.Helper()
	caller, near := tcpPair(t)
	peer, out := tcpPair(t)
	result := make(chan error, 2) // more than one would be wrong
	j := &join{caller: near, wire: wire(out)}
	j.ended = func(err error) {
		near.Close()
		out.Close()
		result <- err
	}
	go j.run()
	return caller, peer, result
}

func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

func asIs(c net.Conn) net.Conn { return c }

// Both directions are independent, and the join ends after the second.
func TestJoin(t *testing.T) {
	caller, peer, ended := newJoin(t, asIs)
	if _, err := io.WriteString(caller, "question"); err != nil {
		t.Fatal(err)
	}
	caller.CloseWrite()
	if text, err := io.ReadAll(peer); string(text) != "question" || err != nil {
		t.Errorf("the peer reads %q, %v", text, err)
	}
	if len(ended) > 0 {
		t.Error("it has ended after one direction")
	}
	if _, err := io.WriteString(peer, "answer"); err != nil {
		t.Fatal(err)
	}
	peer.CloseWrite()
	if text, err := io.ReadAll(caller); string(text) != "answer" || err != nil {
		t.Errorf("the caller reads %q, %v", text, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if len(ended) > 0 {
		t.Error("ended is called twice")
	}
}

// After a failure of the transport the join ends with its error, although one direction
// could go on.
func TestJoinFails(t *testing.T) {
	failure := errors.New("a record is malformed")
	for name, wire := range map[string]func(net.Conn) net.Conn{
		"error": func(c net.Conn) net.Conn { return &flawed{Conn: c, read: func() error { return failure }} },
		"panic": func(c net.Conn) net.Conn { return &flawed{Conn: c, read: func() error { panic(failure) }} },
	} {
		_, _, ended := newJoin(t, wire)
		err := <-ended
		if panicked, ok := errors.AsType[*panicError](err); ok {
			err = panicked.value.(error)
		} else if name == "panic" {
			t.Errorf("%v is no panic", err)
		}
		if !errors.Is(err, failure) {
			t.Errorf("%s: it ended with %v", name, err)
		}
	}
}

// When the peer is gone, what it sent before still reaches the caller.
func TestJoinPeerGone(t *testing.T) {
	var lost atomic.Bool
	caller, peer, ended := newJoin(t, func(c net.Conn) net.Conn {
		return &flawed{Conn: c, write: func() error { lost.Store(true); return syscall.EPIPE }}
	})
	if _, err := io.WriteString(caller, "into the void"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(peer, "last words"); err != nil {
		t.Fatal(err)
	}
	peer.CloseWrite()
	if text, err := io.ReadAll(caller); string(text) != "last words" || err != nil {
		t.Errorf("the caller reads %q, %v", text, err)
	}
	if err := <-ended; lost.Load() && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("it ended with %v", err)
	}
}

// flawed is a connection whose reads or writes do something else.
type flawed struct {
	net.Conn
	read, write func() error
}

func (f *flawed) Read(b []byte) (int, error) {
	if f.read != nil {
		return 0, f.read()
	}
	return f.Conn.Read(b)
}

func (f *flawed) Write(b []byte) (int, error) {
	if f.write != nil {
		return 0, f.write()
	}
	return f.Conn.Write(b)
}

func (f *flawed) CloseWrite() error { return f.Conn.(*net.TCPConn).CloseWrite() }
