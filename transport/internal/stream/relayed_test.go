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

// begun is a connection over a socket from which bytes have been read.
type begun struct {
	*net.TCPConn
	unread []byte
}

func (b *begun) Unread() (net.Conn, []byte) { return b.TCPConn, b.unread }

// Read reads what Open has left to it.
func (b *begun) Read(p []byte) (int, error) {
	if n := copy(p, b.unread); n > 0 {
		b.unread = b.unread[n:]
		return n, nil
	}
	return b.TCPConn.Read(p)
}

// TestOpenUnread: what was read of a socket comes first, however much that is, and the
// socket itself is used where sockets are, if a buffer has room for it.
func TestOpenUnread(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, size := range []int{0, 1, 5000, bufferSize, bufferSize + 1} {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		near, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s := Open(&begun{near.(*net.TCPConn), numbers(0, size)})
		_, isRelayed := s.(*relayed)
		if direct := size <= bufferSize && openSocket(near) != nil; isRelayed == direct {
			t.Errorf("with %d bytes it is a %T", size, s)
		}
		if _, err := far.Write(numbers(size, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		p := NewEndpoint(s, Posix)
		var got []byte
		for buf := make([]byte, 999); ; {
			n, err := readPort(p, buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(numbers(0, size+1000)) {
			t.Errorf("of %d bytes and 1000 more came %d", size, len(got))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
