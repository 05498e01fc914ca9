package meter

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long to wait for what must happen.
const patience = time.Minute

// Only a malformed address, or one that others than this machine could ask, is an error.
func TestCheckAddress(t *testing.T) {
	dir := strings.Repeat("d", maxSocketPath-len("/metrics"))
	for _, address := range []string{
		"127.0.0.1:0", "127.1.2.3:65535", "[::1]:9", "[::ffff:127.0.0.1]:9",
		"unix:/nowhere/s", "unix:s", "unix:@s", "unix:" + dir + "/metrics",
	} {
		if err := CheckAddress(address); err != nil {
			t.Error(err)
		}
	}
	for _, address := range []string{
		"", "x", ":0", "0.0.0.0:0", "[::]:0", "localhost:0", "192.0.2.7:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536",
		"unix:", "unix:a\x00b", "unix:" + dir + "d/metrics", "unix:" + dir + "ddddddd/s",
	} {
		if err := CheckAddress(address); err == nil {
			t.Errorf("%q could be served at", address)
		}
		if stop, err := New().Serve(address, quiet); err == nil {
			stop()
			t.Errorf("%q is served at", address)
		}
	}
}

// levels passes on the levels of a log's records.
type levels struct {
	slog.Handler
	to chan slog.Level
}

func (l levels) Enabled(context.Context, slog.Level) bool { return true }

func (l levels) Handle(_ context.Context, r slog.Record) error {
	l.to <- r.Level
	return nil
}

// An address that is in use is tried again until it is free.
func TestServeLater(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	logged := make(chan slog.Level, 100)
	stop, err := New().Serve(other.Addr().String(), slog.New(levels{to: logged}))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-logged; got != slog.LevelWarn {
		t.Errorf("the first record is at %v", got)
	}
	other.Close()
	for level := range logged {
		if level == slog.LevelInfo {
			break
		}
	}
	get(t, "tcp", other.Addr().String())
	stop()
	if l, err := net.Listen("tcp", other.Addr().String()); err != nil {
		t.Errorf("after the end: %v", err)
	} else {
		l.Close()
	}
}

// The end does not wait for the address.
func TestServeNever(t *testing.T) {
	stop, err := New().Serve("unix:"+filepath.Join(t.TempDir(), "missing", "s"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// serveTCP serves figures at a free port until the test ends, and returns its address.
func serveTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		New().serve(ctx, l, quiet)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return l.Addr().String()
}

// status asks with a request line and headers and returns the answer's status.
func status(t *testing.T, network, address, request string) int {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.80q: %v", request, err)
	}
	return resp.StatusCode
}

// A web page cannot have a browser ask by a name of its own.
func TestHost(t *testing.T) {
	tcp, socket := serveTCP(t), tempSocket(t)
	stop, err := New().Serve("unix:"+socket, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9": 200, "192.0.2.7": 200, "[::1]": 200, "[::1]:9": 200, "localhost": 200, "LocalHost:9": 200,
		"": 403, "example.com": 403, "example.com:80": 403, "localhost.example.com": 403, "127.0.0.1.example.com": 403,
		"localhost:9:9": 403, "127.1": 403,
	} {
		request := "GET /metrics HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
		if got := status(t, "tcp", tcp, request); got != want {
			t.Errorf("Host %q: %d, want %d", host, got, want)
		}
		if got := status(t, "unix", socket, request); got != 200 {
			t.Errorf("Host %q over a Unix socket: %d", host, got)
		}
	}
	if got := status(t, "tcp", tcp, "GET http://example.com/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); got != 403 {
		t.Errorf("a name in the request line: %d", got)
	}
}

// Other paths and methods are not served, nor are long headers read.
func TestRequests(t *testing.T) {
	address := serveTCP(t)
	for request, want := range map[string]int{
		"GET /metrics":       200,
		"HEAD /metrics":      200,
		"POST /metrics":      405,
		"DELETE /metrics":    405,
		"GET /":              404,
		"GET /metrics/x":     404,
		"GET /debug/pprof/":  404,
		"GET /metrics?a=b":   200,
		"CONNECT /metrics":   405,
		"OPTIONS /metrics":   405,
		"GET /" + long(16e3): 431,
	} {
		if got := status(t, "tcp", address, request+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); got != want {
			t.Errorf("%.40q: %d, want %d", request, got, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// Requests that are sent by half do not keep out others, and are not kept for long.
func TestHalfRequests(t *testing.T) {
	address := serveTCP(t)
	const many = 10 * maxConns
	closed := make(chan error, many)
	for range many {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost:"); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closed <- nil // there was no room for it any more
			continue
		}
		go func() {
			_, err := io.Copy(io.Discard, c)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil // it may be reset
			}
			closed <- err
		}()
	}
	get(t, "tcp", address)
	for range many {
		if err := <-closed; err != nil {
			t.Errorf("a connection is kept: %v", err)
		}
	}
}

// The server writes nothing to standard error.
func TestErrorLog(t *testing.T) {
	srv := New().server("tcp", quiet)
	if srv.ErrorLog == nil {
		t.Fatal("the server's errors go to standard error")
	}
	logged := make(chan slog.Level, 1)
	New().server("tcp", slog.New(levels{to: logged})).ErrorLog.Print("x")
	if got := <-logged; got != slog.LevelDebug {
		t.Errorf("they are logged at %v", got)
	}
}
