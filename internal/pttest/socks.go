package pttest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
)

// The SOCKS5 reply codes that a proxy uses (RFC 1928, section 6).
const (
	ReplyGranted         = 0
	ReplyFailure         = 1
	ReplyNetUnreachable  = 3
	ReplyHostUnreachable = 4
	ReplyRefused         = 5
)

// Ask asks a transport for a connection as tor does, and returns it with the
// reply code. With args, encoded as in a bridge line, it offers a user name and
// password, as tor does; without it offers none.
func Ask(t testing.TB, proxy, target, args string) (*net.TCPConn, byte) {
	t.Helper()
	c := Dial(t, proxy)
	code, err := Negotiate(c, target, args)
	if err != nil {
		t.Fatalf("SOCKS: %v", err)
	}
	return c, code
}

// Connect is Ask for a connection that must be granted.
func Connect(t testing.TB, proxy, target string) *net.TCPConn {
	t.Helper()
	c, code := Ask(t, proxy, target, "")
	if code != ReplyGranted {
		t.Fatalf("SOCKS reply %d", code)
	}
	return c
}

// Negotiate asks for a connection over one to the proxy, and returns the reply code.
func Negotiate(c net.Conn, target, args string) (byte, error) {
	offer, choice := []byte{5, 1, 0}, byte(0)
	if args != "" {
		offer, choice = []byte{5, 2, 0, 2}, 2
	}
	if err := Exchange(c, offer, []byte{5, choice}); err != nil {
		return 0, err
	}
	if args != "" {
		user, pass := args, "\x00"
		if len(args) > 255 {
			user, pass = args[:255], args[255:]
		}
		auth := append([]byte{1, byte(len(user))}, user...)
		auth = append(append(auth, byte(len(pass))), pass...)
		if err := Exchange(c, auth, []byte{1, 0}); err != nil {
			return 0, err
		}
	}
	request, err := Request(target)
	if err != nil {
		return 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	reply := make([]byte, 10)
	if _, err := io.ReadFull(c, reply); err != nil {
		return 0, err
	}
	if want := []byte{5, reply[1], 0, 1, 0, 0, 0, 0, 0, 0}; !bytes.Equal(reply, want) {
		return 0, fmt.Errorf("malformed reply %x", reply)
	}
	return reply[1], nil
}

// Request returns the SOCKS5 request for a connection.
func Request(target string) ([]byte, error) {
	host, portName, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort("tcp", portName)
	if err != nil {
		return nil, err
	}
	r := []byte{5, 1, 0}
	switch ip := net.ParseIP(host); {
	case ip == nil:
		r = append(append(r, 3, byte(len(host))), host...)
	case ip.To4() != nil:
		r = append(append(r, 1), ip.To4()...)
	default:
		r = append(append(r, 4), ip...)
	}
	return append(r, byte(port>>8), byte(port)), nil
}

// Exchange writes something and reads what must come back.
func Exchange(c net.Conn, say, want []byte) error {
	if _, err := c.Write(say); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("got %x, want %x", got, want)
	}
	return nil
}
