package pttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// Listen returns a listener that the test's end closes.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Serve has each connection to a new listener handled, and closed afterwards, until the
// test's end. It returns the listener's address.
func Serve(t testing.TB, handle func(c *net.TCPConn)) (address string) {
	t.Helper()
	l := Listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// DeadAddress returns one that refuses connections until the test ends: a connection
// has it, so that no listener gets it.
func DeadAddress(t testing.TB) string {
	t.Helper()
	return Dial(t, Listen(t).Addr().String()).LocalAddr().String()
}

// FreeAddress returns one at which the test, or a process of it, can listen later. It is
// below the ports that systems give to connections (32768 and up on Linux, 49152 and up
// elsewhere), since those are taken at any time.
func FreeAddress(t testing.TB) string {
	t.Helper()
	const first, last = 12000, 31999
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", first+rand.IntN(last-first+1))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Accept returns the next connection of a listener.
func Accept(t testing.TB, l net.Listener) *net.TCPConn {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return Own(t, c)
}

// Dial connects to an address.
func Dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		t.Fatal(err)
	}
	return Own(t, c)
}

// Own sees to it that a connection ends with the test, and does not hang it.
func Own(t testing.TB, c net.Conn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// Echo sends text one way and the other, which shows that a connection works.
func Echo(t testing.TB, near, far net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		text := []byte("a line from " + way[0].LocalAddr().String())
		if _, err := way[0].Write(text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(way[1], got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text) {
			t.Fatalf("got %q, want %q", got, text)
		}
	}
}

// AwaitClose waits for the other side to end a connection, cleanly or not.
func AwaitClose(t testing.TB, c net.Conn) {
	t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection was not closed")
	}
}
