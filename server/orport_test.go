package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// Tests of the rules of ext-orport-spec, with its sections in their names.

var cookie = bytes.Repeat([]byte{0xc0}, cookieSize)

// fakeTor is tor's side of the Extended ORPort, and what came after the commands.
type fakeTor struct {
	pttest.ExtORPort
	rest string
	err  error
}

func (f *fakeTor) serve(c net.Conn) error {
	if err := f.Serve(c); err != nil || f.Commands == nil {
		return err
	}
	rest, err := io.ReadAll(c)
	f.rest = string(rest)
	return err
}

// introduced lets a proxy introduce a client to a fake tor. The proxy says "payload" on
// a connection that it gets.
func introduced(t *testing.T, tor *fakeTor, client string) error {
	t.Helper()
	if tor.Cookie == nil {
		tor.Cookie = cookie
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			tor.err = err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		tor.err = tor.serve(c)
	}()
	file := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(file, append([]byte(cookieHeader), cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	or := ORPort{Extended: l.Addr().(*net.TCPAddr), CookieFile: file}
	conn, err := or.dial(address(client), "way")
	if err == nil {
		io.WriteString(conn, "payload")
		conn.Close()
	}
	<-done
	return err
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// The proxy chooses an authentication that it knows, or says that there is none.
func TestExtORPort_2_AuthTypes(t *testing.T) {
	for types, want := range map[string]byte{"\x01\x00": 1, "\x07\x01\xff\x00": 1, "\x02\x00": 0, "\x00": 0} {
		tor := &fakeTor{ExtORPort: pttest.ExtORPort{Types: types, Chosen: 99}}
		err := introduced(t, tor, "192.0.2.1:1")
		if (err == nil) != (want == 1) || tor.Chosen != want || tor.err != nil {
			t.Errorf("of %q it chose %d, %v, %v; want %d", types, tor.Chosen, err, tor.err, want)
		}
	}
	if err := introduced(t, &fakeTor{ExtORPort: pttest.ExtORPort{Types: strings.Repeat("\x02", 300)}}, "192.0.2.1:1"); err == nil {
		t.Error("a list without an end was read")
	}
}

// Without its header a cookie file is none, and no connection is made.
func TestExtORPort_2_1_2_CookieFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "cookie")
	or := ORPort{Extended: l.Addr().(*net.TCPAddr), CookieFile: file}
	for _, text := range []string{
		"", cookieHeader, cookieHeader + "short", strings.Repeat("x", 64), "! Extended ORPort Auth Cookie !\r" + string(cookie),
		string(cookie), cookieHeader + string(cookie) + "x",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if conn, err := or.dial(address("192.0.2.1:1"), "way"); err == nil {
			conn.Close()
			t.Errorf("%q is taken for a cookie", text)
		}
	}
	os.Remove(file)
	if conn, err := or.dial(address("192.0.2.1:1"), "way"); err == nil {
		conn.Close()
		t.Error("no file is needed")
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if conn, err := l.Accept(); err == nil {
		conn.Close()
		t.Error("it connected without a cookie")
	}
}

// If tor's hash is wrong the proxy ends the connection before it has shown its own.
func TestExtORPort_2_1_3_ServerHash(t *testing.T) {
	tor := &fakeTor{ExtORPort: pttest.ExtORPort{Cookie: make([]byte, cookieSize)}}
	if err := introduced(t, tor, "192.0.2.1:1"); err == nil {
		t.Error("it talks to one who does not know the cookie")
	}
	if !errors.Is(tor.err, io.EOF) {
		t.Errorf("tor's side ended with %v, want the end of the connection", tor.err)
	}
	if err := introduced(t, &fakeTor{ExtORPort: pttest.ExtORPort{Refuses: true}}, "192.0.2.1:1"); err == nil {
		t.Error("a refused authentication is taken for a good one")
	}
}

// What is not understood is ignored; the payload comes after OKAY, and after DENY there
// is none.
func TestExtORPort_3_1_Unknown(t *testing.T) {
	const okay, deny = "\x10\x00\x00\x03xyz", "\x10\x01\x00\x00"
	const control, other = "\x10\x02\x00\x05hello", "\x77\x77\x00\x00"
	for replies, ok := range map[string]bool{
		strings.Repeat(control, 50) + okay: true, strings.Repeat(control, 500) + okay: false,
		okay: true, control + okay: true, other + control + other + okay: true, deny: false, other + deny + okay: false,
	} {
		tor := &fakeTor{ExtORPort: pttest.ExtORPort{Replies: replies}}
		err := introduced(t, tor, "192.0.2.1:1")
		want := ""
		if ok {
			want = "payload"
		}
		if (err == nil) != ok || ok && tor.rest != want {
			t.Errorf("replies %q: %v, and tor got %q", replies, err, tor.rest)
		}
	}
}

// The client's address is in one of two forms, and neither it nor the transport's name
// ends with a NUL.
func TestExtORPort_3_2_UserAddr(t *testing.T) {
	for client, want := range map[string]string{
		"1.2.3.4:5678":              "1.2.3.4:5678",
		"[1:2::3:4]:5678":           "[1:2::3:4]:5678",
		"[::ffff:1.2.3.4]:5678":     "1.2.3.4:5678",
		"[fe80::1%eth0]:5678":       "[fe80::1]:5678",
		"":                          "none",
		"a name that is no address": "none",
	} {
		tor := &fakeTor{}
		if err := introduced(t, tor, client); err != nil || tor.err != nil {
			t.Errorf("%s: %v, %v", client, err, tor.err)
			continue
		}
		got, ok := tor.Commands[commandUserAddr]
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%s: USERADDR is %q, want %q", client, got, want)
		}
		if got := tor.Commands[commandTransport]; got != "way" {
			t.Errorf("TRANSPORT is %q", got)
		}
	}
}
