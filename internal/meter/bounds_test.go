package meter

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
)

// stranger answers requests as it likes, and returns its address.
func stranger(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// raw answers each connection with a text, whatever the request, and returns its
// address.
func raw(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer) // it may be too long for the other side
			}()
		}
	}()
	return l.Addr().String()
}

// sample is a line of an answer that is waterproxy's.
const sample = `waterproxy_bytes_total{transport="t",direction="to_network"} `

// An endless answer is read up to its bound.
func TestEndlessAnswer(t *testing.T) {
	for name, piece := range map[string]string{
		"figures": sample + "1\n",
		"line":    sample + strings.Repeat("1", 1<<10),
	} {
		var sent atomic.Int64
		address := stranger(t, func(w http.ResponseWriter, _ *http.Request) {
			for {
				n, err := io.WriteString(w, piece)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		if _, err := Read(t.Context(), address); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: %v", name, err)
		}
		if got := sent.Load(); got > 64<<20 { // most of it is in the system's buffers
			t.Errorf("%s: %d bytes were taken", name, got)
		}
	}
	header := "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+long(1000)+"\r\n", 1000)
	if _, err := Read(t.Context(), raw(t, header)); err == nil {
		t.Error("an endless header is no error")
	}
}

// An answer that comes in drops ends with the context.
func TestTrickle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, sample)
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	if _, err := Read(ctx, address); err == nil {
		t.Error("half an answer is no error")
	}
}

// A redirection leads nowhere.
func TestRedirect(t *testing.T) {
	var followed atomic.Bool
	elsewhere := stranger(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	address := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+elsewhere+"/metrics", http.StatusFound)
	})
	if _, err := Read(t.Context(), address); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("%v", err)
	}
	if followed.Load() {
		t.Error("it was followed")
	}
}

// What others write is fit for a terminal when it is part of an error.
func TestErrorsArePrintable(t *testing.T) {
	const escape = "\x1b[31m\u202e"
	ok := "HTTP/1.1 200 OK\r\n"
	for _, answer := range []string{
		"HTTP/1.1 404 " + escape + "\r\n\r\n",
		"HTTP/1.1 " + escape + "\r\n\r\n",
		"HTTP/1.1 200 " + escape + long(10000) + "\r\nContent-Length: " + escape + "\r\n\r\n",
		escape + long(10000) + "\r\n\r\n",
		ok + escape + ": x\r\n\r\n",
		ok + "Content-Type: " + escape + "\r\n\r\n<",
		ok + "Content-Type: text/html\r\n\r\n<html>" + escape,
		ok + "\r\nx{a=\"\\\x1b\"} 1\n",
		ok + "\r\nx{a=\"" + escape + long(10000) + "\"} y\n",
		ok + "\r\nx{a=\"\xff\"} 1\n",
		ok + "\r\n# TYPE x " + escape + "\n",
		ok + "\r\nx{a=\"",
		ok + "Content-Length: 100\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n" + escape + "\r\n",
	} {
		_, err := Read(t.Context(), raw(t, answer))
		if err == nil {
			t.Errorf("%.60q is no error", answer)
			continue
		}
		if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 1000 {
			t.Errorf("%.60q: %q", answer, text)
		}
	}
}

// Numbers that count nothing are unknown, and so is what was not served.
func TestFigureValues(t *testing.T) {
	for text, want := range map[string]struct {
		n  uint64
		ok bool
	}{
		"0": {0, true}, "-0": {0, true}, "1.9": {1, true}, "9007199254740992": {1 << 53, true},
		"NaN": {}, "+Inf": {}, "-Inf": {}, "-1": {}, "-1e-9": {}, "1e300": {}, "1e16": {},
	} {
		for _, head := range []string{"", "# TYPE waterproxy_bytes_total counter\n", "# TYPE waterproxy_bytes_total gauge\n"} {
			rows, err := Read(t.Context(), raw(t, "HTTP/1.1 200 OK\r\n\r\n"+head+sample+text+"\n"))
			if err != nil || len(rows) != 1 {
				t.Errorf("%s: %v, %v", text, rows, err)
				continue
			}
			if n, ok := rows[0].ToNetwork.Value(); n != want.n || ok != want.ok {
				t.Errorf("%s is %d, %v; want %v", text, n, ok, want)
			}
			if n, ok := rows[0].FromNetwork.Value(); ok {
				t.Errorf("what was not served is %d", n)
			}
		}
	}
}

// The median of a histogram that makes no sense is unknown.
func TestMedianOfNonsense(t *testing.T) {
	for _, buckets := range []string{
		`{le="NaN"} 9`, `{le="-Inf"} 9`, `{le="-5"} 9`, "{le=\"0.5\"} 1\nX_bucket{le=\"0.2\"} 9", "{le=\"0.2\"} 4\nX_bucket{le=\"0.5\"} 3\nX_bucket{le=\"1\"} 9",
		`{le="+Inf"} NaN`,
	} {
		text := strings.ReplaceAll("# TYPE X histogram\nX_bucket"+buckets+"\nX_count 9\n", "X", setUpName)
		rows, err := Read(t.Context(), raw(t, "HTTP/1.1 200 OK\r\n\r\n"+text))
		if err != nil {
			continue // that is as good
		}
		for _, r := range rows {
			if r.SetUp < 0 || r.SetUp > 30*time.Second {
				t.Errorf("%q: %v", buckets, r.SetUp)
			}
		}
	}
}
