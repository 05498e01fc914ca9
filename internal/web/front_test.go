package web

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// wholeHead is what the module gets of the request.
const wholeHead = "GET " + secretPath + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

// eachWay runs a test with TLS and without.
func eachWay(t *testing.T, test func(t *testing.T, f *Front)) {
	t.Run("TLS", func(t *testing.T) { test(t, start(t, Config{Web: secureWeb(t)}, usualTimes)) })
	t.Run("plain", func(t *testing.T) { test(t, start(t, Config{Web: parse(t, "x.toml", "")}, usualTimes)) })
}

// The module gets the head and what followed it at once, and then each byte of either side.
func TestHandOn(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		client, module := upgraded(t, f, "early bytes")
		expect(t, module, wholeHead+"early bytes")
		send(t, module, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		expect(t, client, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		for range 3 {
			send(t, client, "there")
			expect(t, module, "there")
			send(t, module, "and back")
			expect(t, client, "and back")
		}
		if got, want := module.RemoteAddr().String(), client.LocalAddr().String(); got != want {
			t.Errorf("the client's address is %s, want %s", got, want)
		}
	})
}

// Either side ends its direction, and goes on to get what the other sends.
func TestHalfClose(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		for _, clientFirst := range []bool{true, false} {
			client, module := upgraded(t, f, "")
			expect(t, module, wholeHead)
			first, second := client.(halfCloser), module.(halfCloser)
			if !clientFirst {
				first, second = second, first
			}
			send(t, first, "the last")
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expect(t, second, "the last")
			expectEnd(t, second)
			send(t, second, "more")
			if err := second.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expect(t, first, "more")
			expectEnd(t, first)
		}
	})
}

// A closed connection has delivered what was written, with a good end.
func TestTunnelClose(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		client, module := upgraded(t, f, "")
		expect(t, module, wholeHead)
		send(t, module, "goodbye")
		if err := module.Close(); err != nil {
			t.Fatal(err)
		}
		expect(t, client, "goodbye")
		expectEnd(t, client)
	})
}

// A peer that reads nothing does not hold up who closes its connection, and gets a good end
// once it reads.
func TestCloseDoesNotWait(t *testing.T) {
	w := secureWeb(t)
	cert, err := loadPair(w)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe() // it has no room for a byte
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{*cert}, SessionTicketsDisabled: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := errors.Join(server.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	if err := newTunnel(server, nil, nil).Close(); err != nil { // TLS itself waits, and then gives up
		t.Fatal(err)
	}
	expectEnd(t, client)
}

// A deadline ends a read, and no more.
func TestDeadline(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		client, module := upgraded(t, f, "")
		expect(t, module, wholeHead)
		if err := module.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		slow, _ := errors.AsType[net.Error](func() error { _, err := module.Read(make([]byte, 1)); return err }())
		if slow == nil || !slow.Timeout() {
			t.Fatalf("%v", slow)
		}
		if err := module.SetReadDeadline(time.Now().Add(pttest.Patience)); err != nil {
			t.Fatal(err)
		}
		send(t, client, "later")
		expect(t, module, "later")
	})
}

// Many bytes arrive as they were sent, in both directions at once.
func TestBulk(t *testing.T) {
	const size = 8 << 20
	eachWay(t, func(t *testing.T, f *Front) {
		client, module := upgraded(t, f, "")
		expect(t, module, wholeHead)
		done := make(chan error, 4)
		for seed, ends := range [][2]net.Conn{{client, module}, {module, client}} {
			source := rand.NewChaCha8([32]byte{byte(seed)})
			same := rand.NewChaCha8([32]byte{byte(seed)})
			go func() {
				_, err := io.CopyN(ends[0], source, size)
				done <- errors.Join(err, ends[0].(halfCloser).CloseWrite())
			}()
			go func() {
				got, err := io.ReadAll(ends[1])
				want := make([]byte, size)
				same.Read(want)
				if err == nil && string(got) != string(want) {
					err = errors.New("other bytes arrived")
				}
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A visitor may look at pages first, and upgrade the same connection then.
func TestUpgradeLater(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		client := net.Conn(pttest.Dial(t, f.Addr().String()))
		if f.certs != nil {
			client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
		}
		send(t, client, "GET /nowhere HTTP/1.1\r\nHost: "+host+"\r\n\r\n"+upgrade+"early")
		module := accept(t, f)
		expect(t, module, wholeHead+"early")
		send(t, module, "late")
		got := ""
		for !strings.HasSuffix(got, "late") {
			buf := make([]byte, 1000)
			n, err := client.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += string(buf[:n])
		}
		if !strings.HasPrefix(got, "HTTP/1.1 404 Not Found\r\n") || !strings.HasSuffix(got, "404 page not found\nlate") {
			t.Errorf("%q", got)
		}
	})
}

// Plain HTTP for everybody is worth a warning; behind a web server it is not.
func TestPlainWarning(t *testing.T) {
	for address, want := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		inner, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		var log records
		f, err := Listen(inner, Config{Web: parse(t, "x.toml", ""), URL: secretURL, Log: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if log.has("speaks no TLS") != want {
			t.Errorf("%s: warned is %v", address, !want)
		}
	}
}

// Of the request the module gets what an upgrade needs: no cookies, no addresses.
func TestHead(t *testing.T) {
	f := start(t, Config{Web: parse(t, "x.toml", "")}, usualTimes)
	for request, want := range map[string]string{
		strings.Replace(upgrade, "\r\n\r\n", "\r\nCookie: x\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\r\n", 1): wholeHead,
		strings.Replace(upgrade, "Connection: upgrade", "connection: keep-alive, Upgrade", 1):                                      wholeHead,
		strings.Replace(upgrade, "Upgrade: websocket", "UPGRADE: WebSocket", 1):                                                    wholeHead,
		strings.Replace(upgrade, secretPath, secretPath+"?query", 1):                                                               wholeHead,
		strings.Replace(upgrade, "\r\n\r\n", "\r\nSec-WebSocket-Key: dGhl\r\n\r\n", 1):                                             strings.Replace(wholeHead, "\r\n\r\n", "\r\nSec-Websocket-Key: dGhl\r\n\r\n", 1),
	} {
		client := pttest.Dial(t, f.Addr().String())
		send(t, client, request+".")
		expect(t, accept(t, f), want+".")
	}
}

// Whoever is not handed on makes room for others: first those who were quiet the longest.
func TestVisitorsAreBounded(t *testing.T) {
	w := secureWeb(t)
	w.Connections = 2
	with := usualTimes
	with.quiet = time.Millisecond
	f := start(t, Config{Web: w}, with)
	// Tunnels are not counted.
	var tunnels [][2]net.Conn
	for range 5 {
		client, module := upgraded(t, f, "")
		expect(t, module, wholeHead)
		tunnels = append(tunnels, [2]net.Conn{client, module})
	}
	var quiet []net.Conn
	for range 5 {
		quiet = append(quiet, pttest.Dial(t, f.Addr().String()))
	}
	for _, conn := range quiet[:3] {
		_, _ = io.Copy(io.Discard, conn) // to its end, whatever that is
	}
	client, module := upgraded(t, f, "")
	tunnels = append(tunnels, [2]net.Conn{client, module})
	expect(t, module, wholeHead)
	for _, ends := range tunnels {
		send(t, ends[0], "alive")
		expect(t, ends[1], "alive")
	}
}

// A visitor who sends nothing, or half a head, is sent away after a time, as by any web
// server.
func TestSlowVisitors(t *testing.T) {
	w := parse(t, "x.toml", "")
	with := usualTimes
	with.header = 10 * time.Millisecond
	f := start(t, Config{Web: w}, with)
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: "} {
		conn := pttest.Dial(t, f.Addr().String())
		send(t, conn, text)
		// On a slow machine the text comes after the end, which is a reset then.
		if got, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || len(got) > 0 {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Close ends visitors, and who waits to be handed on, and leaves tunnels alone.
func TestClose(t *testing.T) {
	eachWay(t, func(t *testing.T, f *Front) {
		client, module := upgraded(t, f, "")
		expect(t, module, wholeHead)
		visitor, waiting := pttest.Dial(t, f.Addr().String()), pttest.Dial(t, f.Addr().String())
		var asks net.Conn = waiting
		if f.certs != nil {
			asks = tls.Client(waiting, &tls.Config{InsecureSkipVerify: true})
		}
		send(t, asks, upgrade)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if conn, err := f.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, %v after Close", conn, err)
		}
		for _, conn := range []net.Conn{visitor, waiting} {
			_, _ = io.Copy(io.Discard, conn) // to its end, whatever that is
		}
		send(t, client, "alive")
		expect(t, module, "alive")
	})
}

// The error of the inner listener is that of Accept.
func TestInnerListenerEnds(t *testing.T) {
	f := start(t, Config{Web: parse(t, "x.toml", "")}, usualTimes)
	if err := f.inner.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := f.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, %v", conn, err)
	}
}

// failing is a listener that has no connection at first.
type failing struct {
	net.Listener
	failed bool
}

func (l *failing) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.ENOBUFS)}
	}
	return l.Listener.Accept()
}

// A failure to accept passes, and is logged.
func TestAcceptFails(t *testing.T) {
	var log records
	f, err := Listen(&failing{Listener: pttest.Listen(t)}, Config{Web: parse(t, "x.toml", ""), URL: secretURL, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, module := upgraded(t, f, "")
	expect(t, module, wholeHead)
	if !log.has("cannot accept") {
		t.Error("the failure is not logged")
	}
}

func TestURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://www.example.com/a/b": "/a/b", "https://www.example.com:8443/a%20b?c=d": "/a%20b", "http://localhost/x": "/x",
		"https://a.example": "", "https://a.example/": "", "": "", "a.example/x": "", "ftp://a.example/x": "",
		"https:///x": "", "https://a.example/%zz": "",
	} {
		s, err := newSecret(url)
		if s.path != want && err == nil || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", url, s.path, err)
		}
		if err != nil && url != "" && strings.Contains(err.Error(), url) {
			t.Errorf("%s is in the error", url)
		}
	}
}
