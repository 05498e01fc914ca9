package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"waterproxy/transport"
)

func TestAwaitSOCKS(t *testing.T) {
	const http = "HTTP/1.0 501 "
	for _, test := range []struct {
		say, what, hear string
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP request instead of SOCKS5", http},
		{"POST /secret HTTP/1.1\r\n\r\n", "HTTP request instead of SOCKS5", http},
		{"CONNECT secret.example:443 HTTP/1.1\r\n\r\n", "HTTP CONNECT request instead of SOCKS5", http},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP request instead of SOCKS5", ""},
		{"\x04\x01\x00\x50\x7f\x00\x00\x01secret\x00", "SOCKS4 request instead of SOCKS5", socks4Rejected},
		{"\x16\x03\x01\x02\x00\x01\x00secret", "TLS ClientHello instead of SOCKS5", ""},
		{"\x00\x00\x07\x00\x04\x00\x04\x00\x05", "tor's link protocol instead of SOCKS5", ""},
		{"PROTOCOLINFO 1\r\n", "tor's control protocol instead of SOCKS5", ""},
		{"AUTHENTICATE \"secret\"\r\n", "tor's control protocol instead of SOCKS5", ""},
		{"secret", "unknown bytes instead of SOCKS5", ""},
		{"PUSH", "unknown bytes instead of SOCKS5", ""},
		{"GE", "unknown bytes instead of SOCKS5", ""}, // and no more
		{"", "", ""}, // the client leaves
	} {
		near, far := tcpPair(t)
		if _, err := io.WriteString(near, test.say); err != nil {
			t.Fatal(err)
		}
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, err := awaitSOCKS(far)
		far.Close()
		want := error(notSOCKS(test.what))
		if test.what == "" {
			want = errNoRequest
		}
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", test.say, err, want)
		}
		heard, err := io.ReadAll(near)
		if err != nil || !strings.HasPrefix(string(heard), test.hear) || (test.hear == "") != (len(heard) == 0) {
			t.Errorf("%q: heard %q, %v; want %q", test.say, heard, err, test.hear)
		}
		if test.hear == http && (!strings.Contains(string(heard), "Connection: close\r\n") || !strings.HasSuffix(string(heard), "\r\n\r\n"+httpBody)) {
			t.Errorf("the answer is %q", heard)
		}
	}
}

// Nothing is lost of a SOCKS5 request, and nothing read beyond its first byte.
func TestAwaitSOCKS5(t *testing.T) {
	near, far := tcpPair(t)
	if _, err := io.WriteString(near, "\x05\x01\x00rest"); err != nil {
		t.Fatal(err)
	}
	conn, err := awaitSOCKS(far)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		from io.Reader
		want string
	}{{conn, "\x05"}, {conn, "\x01"}, {far, "\x00rest"}} {
		got := make([]byte, len(part.want))
		if _, err := io.ReadFull(part.from, got); err != nil || string(got) != part.want {
			t.Fatalf("read %q, %v; want %q", got, err, part.want)
		}
	}
}

// What sends nothing, or stops in the middle, is not waited for any longer than
// socksTimeout.
func TestAwaitSOCKSTimeout(t *testing.T) {
	for say, want := range map[string]string{
		"":             "no request in time",
		"GE":           "unknown bytes instead of SOCKS5",
		"\x05\x01\x02": "SOCKS5 request that was not complete in time",
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe() // whose deadlines are those of the fake clock
			defer near.Close()
			go io.Copy(io.Discard, near)
			go io.WriteString(near, say)
			conn, err := awaitSOCKS(far)
			if err == nil {
				_, err = readSOCKS(conn)
				err = errors.Join(err, conn.whyNoRequest())
			}
			far.Close()
			if !errors.Is(err, notSOCKS(want)) {
				t.Errorf("%q: %v, want %s", say, err, want)
			}
		})
	}
}

func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// syncBuffer is a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// The log names what came to the port, for tor and for other applications, and has
// nothing of the contents.
func TestStrangersAreLogged(t *testing.T) {
	for name, frontend := range map[string]Frontend{"tor": Tor{}, "application": SOCKS{Bridge{Address: "127.0.0.1:1"}}} {
		t.Run(name, func(t *testing.T) {
			var text syncBuffer
			log := slog.New(slog.NewTextHandler(&text, nil))
			d := transport.NewLazyDialer(func(context.Context) error { return errors.New("this module does not load") })
			p := serve(t, d, frontend, log)
			for _, say := range []string{"GET /secret HTTP/1.0\r\n\r\n", "\x05\x01\x00\x05\x02secret", "\x05\x02\x00", "\x04\x01secret\x00", "secret"} {
				c, err := net.Dial("tcp", p.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, say); err != nil {
					t.Fatal(err)
				}
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c) // until it is refused; a reset will do
				c.Close()
			}
			p.Close()
			p.Wait()
			for _, want := range []string{
				`kind="HTTP request instead of SOCKS5"`, `kind="malformed or unsupported SOCKS5 request"`, `kind="SOCKS5 request that was cut off"`,
				`kind="SOCKS4 request instead of SOCKS5"`, `kind="unknown bytes instead of SOCKS5"`,
			} {
				if !strings.Contains(text.String(), "level=WARN msg=\"the SOCKS port got no SOCKS5 request that it can carry out\" transport=t "+want) {
					t.Errorf("the log has no %s: %s", want, text.String())
				}
			}
			if strings.Contains(text.String(), "secret") {
				t.Errorf("the log has what was sent: %s", text.String())
			}
		})
	}
}

// A connection that fails is a warning, of a kind that is counted.
func TestFailuresAreLogged(t *testing.T) {
	var text syncBuffer
	d, err := transport.NewReloadableDialer(load(t, "plain_v1"))
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, d, Tor{}, slog.New(slog.NewTextHandler(&text, nil)))
	if got := ask(t, p); got != 5 { // at port 9 of this machine nobody listens
		t.Errorf("reply %d, want 5", got)
	}
	p.Close()
	p.Wait()
	if want := `level=WARN msg="cannot connect" transport=t kind="connection refused"`; !strings.Contains(text.String(), want) {
		t.Errorf("the log has no %s: %s", want, text.String())
	}
}
