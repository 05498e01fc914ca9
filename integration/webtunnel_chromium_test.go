package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/fingerprint"
	"waterproxy/internal/ptproc"
	"waterproxy/transport"
)

// greeting is what a client has said to a server first, in TLS and within.
type greeting struct {
	hello   *fingerprint.ClientHello
	request *http.Request
}

// chromiumPage makes a browser open a WebSocket to the server that it came from.
const chromiumPage = `<script>new WebSocket("wss://" + location.host + "/socket")</script>`

// serveGreetings serves a page and WebSockets, and passes on what clients say. It issues no
// tickets, so that each connection begins from nothing.
func serveGreetings(t *testing.T, pair tls.Certificate) (address string, greetings chan greeting) {
	t.Helper()
	ln := listenLoopback(t)
	greetings = make(chan greeting, 16)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			go func() {
				defer conn.Close()
				if err := greet(conn, config, greetings); err != nil && err != io.EOF {
					t.Log(err) // a browser opens connections that it does not use
				}
			}()
		}
	}()
	return ln.Addr().String(), greetings
}

// greet serves one connection.
func greet(conn net.Conn, config *tls.Config, greetings chan<- greeting) error {
	record := make([]byte, 5)
	if _, err := io.ReadFull(conn, record); err != nil {
		return err
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	if _, err := io.ReadFull(conn, record[5:]); err != nil {
		return err
	}
	hello, err := fingerprint.ParseClientHello(record)
	if err != nil {
		return err
	}
	encrypted := tls.Server(&startedConn{conn, record}, config)
	r := bufio.NewReader(encrypted)
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return err
		}
		greetings <- greeting{hello, request}
		if request.Header.Get("Upgrade") != "" {
			_, err = io.WriteString(encrypted, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		} else {
			_, err = fmt.Fprintf(encrypted, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(chromiumPage), chromiumPage)
		}
		if err != nil {
			return err
		}
	}
}

// startedConn is a connection of which the beginning has been read.
type startedConn struct {
	net.Conn
	first []byte
}

func (c *startedConn) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// awaitGreeting returns the next greeting whose request is for a path.
func awaitGreeting(t *testing.T, greetings <-chan greeting, path string) greeting {
	t.Helper()
	ctx := testContext(t)
	for {
		select {
		case g := <-greetings:
			if g.request.URL.Path == path {
				return g
			}
		case <-ctx.Done():
			t.Fatalf("nobody has asked for %s", path)
		}
	}
}

// startChromium has Debian's Chromium open a page at a name that leads to an address.
func startChromium(t *testing.T, name, address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program(t, "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--ignore-certificate-errors",
		"--user-data-dir="+t.TempDir(), "--host-resolver-rules=MAP "+name+":443 "+address, "https://"+name+"/")
	cmd.Stderr = t.Output()
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it is killed
	})
}

// checkImitation compares what our client says to a server with what Chromium says to the
// same one when a page opens a WebSocket. JA4 is the same; so is JA3 over the sorted
// extensions: Chrome shuffles them, and no two of its own connections have the same JA3.
func checkImitation(t *testing.T, socks string) {
	const name = "front.example"
	_, cert, key := certificate(t, name)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	address, greetings := serveGreetings(t, pair)
	startChromium(t, name, address)
	page := awaitGreeting(t, greetings, "/")
	theirs := awaitGreeting(t, greetings, "/socket")
	args := transport.Args{"url": {"https://" + name + "/secret"}, "addr": {address}, "cert": {pinOf(t, cert)}}
	socksTCP(t, socks, args.String(), "[2001:db8::1]:443").Close()
	ours := awaitGreeting(t, greetings, "/secret")
	t.Logf("%s\nChromium, https:     JA4 %s, JA3 %s, sorted %s\nChromium, WebSocket: JA4 %s, JA3 %s, sorted %s\nours:                JA4 %s, JA3 %s, sorted %s",
		theirs.request.UserAgent(), page.hello.JA4(), page.hello.JA3(), page.hello.JA3Sorted(), theirs.hello.JA4(), theirs.hello.JA3(),
		theirs.hello.JA3Sorted(), ours.hello.JA4(), ours.hello.JA3(), ours.hello.JA3Sorted())
	if got, want := ours.hello.JA4(), theirs.hello.JA4(); got != want {
		t.Errorf("JA4 is %s, Chromium's %s", got, want)
	}
	if got, want := ours.hello.JA3Sorted(), theirs.hello.JA3Sorted(); got != want {
		t.Errorf("JA3 over the sorted extensions is %s, Chromium's %s", got, want)
	}
	if got, want := outline(ours.hello), outline(theirs.hello); got != want {
		t.Errorf("our hello has\n%s\nChromium's has\n%s", got, want)
	}
	if ours.hello.JA4() == page.hello.JA4() {
		t.Error("a WebSocket looks like a page, which offers HTTP/2")
	}
	for field := range theirs.request.Header {
		if field == "Origin" {
			continue
		}
		a, b := ours.request.Header.Get(field), theirs.request.Header.Get(field)
		if field == "Sec-Websocket-Key" || field == "User-Agent" {
			a, b = fmt.Sprint(a != ""), fmt.Sprint(b != "")
		}
		if a != b {
			t.Errorf("the field %s is %q, Chromium's %q", field, a, b)
		}
	}
	if len(ours.request.Header) != len(theirs.request.Header) {
		t.Errorf("our request has %v, Chromium's %v", ours.request.Header, theirs.request.Header)
	}
	if _, version, _ := strings.Cut(ours.request.UserAgent(), "Chrome/"); !strings.Contains(theirs.request.UserAgent(), version) {
		t.Errorf("we say that we are Chrome/%s, Chromium is %s", version, theirs.request.UserAgent())
	}
}

// outline is all of a hello that is the same in each, GREASE as one value.
func outline(h *fingerprint.ClientHello) string {
	clean := func(list []uint16) (out []string) {
		for _, n := range list {
			if n&0x0f0f == 0x0a0a && n>>8 == n&0xff {
				out = append(out, "GREASE")
			} else {
				out = append(out, fmt.Sprintf("%04x", n))
			}
		}
		return out
	}
	var extensions []uint16
	for _, e := range h.Extensions {
		extensions = append(extensions, e.Type)
	}
	sorted := clean(extensions)
	slices.Sort(sorted)
	return fmt.Sprint(clean([]uint16{h.RecordVersion, h.Version}), len(h.Random), len(h.SessionID), clean(h.Ciphers), h.Compressions, sorted,
		h.ServerName, h.ALPN, clean(h.Versions), clean(h.Groups), h.PointFormats, clean(h.Signatures), clean(h.KeyShares), h.Records)
}
