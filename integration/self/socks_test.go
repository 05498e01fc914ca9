package self

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/pttest"
)

// crossed is written to at one end of a connection and read at the other.
type crossed struct {
	net.Conn
	far net.Conn
}

func (c crossed) Read(p []byte) (int, error) { return c.far.Read(p) }

// A request that fails gets the reply code that says why: tor shows it by name.
func TestReplies(t *testing.T) {
	alive := pttest.Listen(t).Addr().String()
	names := []string{"plain_v0", "plain_v1", "posix_v1", "evil_trap_dial_v0", "evil_trap_dial_v1", "evil_dial_badfd_v1", "evil_dial_enotconn_v1", "evil_dial_stdout_v1"}
	var flags []string
	for _, name := range names {
		flags = append(flags, module(name, name)...)
	}
	p := launch(t, clientVariables(strings.Join(append(names, "plain"), ",")), flags...)
	for _, test := range []struct {
		transport, target string
		want              byte
	}{
		{"plain", alive, pttest.ReplyGranted},
		{"plain", pttest.DeadAddress(t), pttest.ReplyRefused},
		{"plain", "no..host:443", pttest.ReplyHostUnreachable},
		{"plain", "255.255.255.255:443", pttest.ReplyNetUnreachable},
		{"plain_v0", pttest.DeadAddress(t), pttest.ReplyRefused},
		{"plain_v0", "no..host:443", pttest.ReplyHostUnreachable},
		{"plain_v1", pttest.DeadAddress(t), pttest.ReplyRefused},
		{"plain_v1", "[::1]:1", pttest.ReplyRefused},
		{"plain_v1", "localhost:1", pttest.ReplyRefused},
		{"plain_v1", "no..host:443", pttest.ReplyHostUnreachable},
		{"posix_v1", pttest.DeadAddress(t), pttest.ReplyRefused},
		{"evil_trap_dial_v0", alive, pttest.ReplyFailure},
		{"evil_trap_dial_v1", alive, pttest.ReplyFailure},
		{"evil_dial_badfd_v1", alive, pttest.ReplyFailure},
		{"evil_dial_enotconn_v1", alive, pttest.ReplyFailure},
		{"evil_dial_stdout_v1", alive, pttest.ReplyFailure},
		{"plain_v1", alive, pttest.ReplyGranted}, // still
	} {
		c, code := pttest.Ask(t, p.Address(test.transport), test.target, "")
		if code != test.want {
			t.Errorf("%s: reply %d for %s, want %d", test.transport, code, test.target, test.want)
		}
		if code != pttest.ReplyGranted {
			if n, err := io.Copy(io.Discard, c); n > 0 || err != nil {
				t.Errorf("%s: after the refusal came %d bytes and %v", test.transport, n, err)
			}
		}
	}
	for _, line := range p.Stdout.All() {
		if strings.HasPrefix(line, "LOG ") && (strings.Contains(line, "127.0.0.1") || strings.Contains(line, "255.255")) {
			t.Errorf("an address was logged: %s", line)
		}
	}
}

// Arguments of a bridge line come as user name and password.
func TestPTSpec_3_5_Length(t *testing.T) {
	p := launch(t, clientVariables("t"), module("t", "plain_v1")...)
	l := pttest.Listen(t)
	for _, args := range []string{
		"k=v",
		`cert=a\;b\=c\\;iat-mode=0`,
		"k=" + strings.Repeat("x", 253),
		"k=" + strings.Repeat("x", 254),
		"k=" + strings.Repeat("x", 508),
	} {
		c, code := pttest.Ask(t, p.Address("t"), l.Addr().String(), args)
		if code != pttest.ReplyGranted {
			t.Errorf("%d bytes of arguments: reply %d", len(args), code)
			continue
		}
		pttest.Echo(t, c, pttest.Accept(t, l))
	}
}

// A request that is no SOCKS5 costs its client the connection, and nobody else
// anything.
func TestMalformedRequests(t *testing.T) {
	p := launch(t, clientVariables("t"), module("t", "plain_v1")...)
	for _, text := range []string{
		"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", // SOCKS4
		"GET / HTTP/1.0\r\n\r\n",               //
		"\x05\x00",                             // no way to authenticate
		"\x05\x01\x01",                         // GSSAPI only
		"\x05\x01\x02\x01\x03k=v\x00",          // pushy, and no password
		"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", // pushy, and BIND
		"\xff\xff\xff\xff\xff",
	} {
		c := pttest.Dial(t, p.Address("t"))
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		pttest.AwaitClose(t, c)
	}
	for request, want := range map[string]byte{
		"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50": 7, // BIND: command not supported
		"\x05\x01\x00\x09\x00\x00":                 8, // address type not supported
	} {
		c := pttest.Dial(t, p.Address("t"))
		if err := pttest.Exchange(c, []byte{5, 1, 0}, []byte{5, 0}); err != nil {
			t.Fatal(err)
		}
		if err := pttest.Exchange(c, []byte(request), []byte{5, want}); err != nil {
			t.Errorf("reply to %q: %v", request, err)
		}
	}
	echoThrough(t, p.Address("t"))
}

// Clients that stall in the negotiation, or whose module does in its handshake,
// delay nobody.
func TestStalledClients(t *testing.T) {
	flags := modulesFlags("t", "plain_v1", "framed", "framed_v1")
	p := launch(t, clientVariables("t,framed"), flags...)
	silent := pttest.Listen(t) // never says framed's hello
	for _, text := range []string{"", "\x05", "\x05\x01\x00", "\x05\x02\x00\x02", "\x05\x01\x02"} {
		for range 20 {
			c := pttest.Dial(t, p.Address("t"))
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 5 {
		c := pttest.Dial(t, p.Address("framed"))
		if err := pttest.Exchange(c, []byte{5, 1, 0}, []byte{5, 0}); err != nil {
			t.Fatal(err)
		}
		r, err := pttest.Request(silent.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(r); err != nil {
			t.Fatal(err)
		}
		pttest.Accept(t, silent)
	}
	// One after the other, the clients above would take minutes: goptlib gives each of
	// the hundred 5 s, and a handshake has 30 s. No connection has so long.
	for range 10 {
		echoThrough(t, p.Address("t"))
	}
}

// Connections end one by one: that of a module which traps, exits or returns
// leaves the others alone, in the same process and of the same module.
func TestFailingConnections(t *testing.T) {
	bad := []string{"evil_trap_worker_v0", "evil_trap_worker_v1", "evil_exit3_v1", "evil_return_eio_v1", "evil_recursion_v1"}
	var flags []string
	for _, name := range bad {
		flags = append(flags, module(name, name)...)
	}
	p := launch(t, clientVariables(strings.Join(append(slices.Clone(bad), "t"), ",")), append(flags, module("t", "plain_blocking_v1")...)...)
	l := pttest.Listen(t)
	near := pttest.Connect(t, p.Address("t"), l.Addr().String())
	far := pttest.Accept(t, l)
	// A connection of a module that will trap, but not yet.
	trapNear := pttest.Connect(t, p.Address("evil_trap_worker_v1"), l.Addr().String())
	trapFar := pttest.Accept(t, l)
	pttest.Echo(t, trapNear, trapFar)

	sum := make(chan string, 1)
	const size = 8 << 20
	go func() { sum <- receive(far) }()
	text := random(size)
	half := make(chan struct{})
	sent := make(chan error, 1)
	go func() {
		_, err := near.Write(text[:size/2])
		<-half
		if err == nil {
			_, err = near.Write(text[size/2:])
		}
		if err == nil {
			err = near.CloseWrite()
		}
		sent <- err
	}()
	for _, name := range bad {
		c := pttest.Connect(t, p.Address(name), l.Addr().String())
		peer := pttest.Accept(t, l)
		// Errors are to be expected here.
		go c.Write(make([]byte, 64<<10))
		pttest.AwaitClose(t, peer)
		pttest.AwaitClose(t, c)
	}
	pttest.Echo(t, trapNear, trapFar)
	close(half)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if got, want := <-sum, digest(text); got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
}
