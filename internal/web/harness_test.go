package web

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/internal/settings"
)

const (
	host       = "www.example.com"
	secretPath = "/a/Secret%20path"
	secretURL  = "https://" + host + secretPath
	upgrade    = "GET " + secretPath + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Go-http-client/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// newSite returns a directory with pages.
func newSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index.html": "<!doctype html><title>Recipes</title><p>Bread.", "style.css": "p { margin: 1em }",
		"soup/index.html": "<p>Soup.", "list/a.txt": "not listed", "secret/.htpasswd": "x", ".git/config": "x",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		old := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// parse returns the settings of a table [web].
func parse(t *testing.T, file, text string) *settings.Web {
	t.Helper()
	s, err := settings.Parse(file, []byte("[web]\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Web
}

// secureWeb returns settings with TLS, and the certificate.
func secureWeb(t *testing.T) *settings.Web {
	t.Helper()
	dir := t.TempDir()
	pttest.WriteCertificate(t, dir, host)
	return parse(t, filepath.Join(dir, "x.toml"), "certificate = 'chain.pem'\nkey = 'key.pem'\nsite = '"+newSite(t)+"'")
}

// start starts a Front that the test's end closes.
func start(t *testing.T, c Config, with times) *Front {
	t.Helper()
	if c.URL == "" {
		c.URL = secretURL
	}
	f, err := listen(pttest.Listen(t), c, with)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// reference is a web server with the same pages that knows of no transport.
func reference(t *testing.T, w *settings.Web) net.Listener {
	t.Helper()
	l := pttest.Listen(t)
	server := &http.Server{
		Handler:           http.FileServerFS(os.DirFS(w.Site)),
		ReadHeaderTimeout: usualTimes.header, IdleTimeout: usualTimes.idle,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	if w.HTTP1Only {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // the old way to say so
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if w.Secure() {
			server.ServeTLS(l, w.Certificate, w.Key)
		} else {
			server.Serve(l)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return l
}

// upgraded connects to a Front as a client of the transport does, with TLS if it has that,
// and returns both ends. What is in early follows the request at once.
func upgraded(t *testing.T, f *Front, early string) (client, module net.Conn) {
	t.Helper()
	client = pttest.Dial(t, f.Addr().String())
	if f.certs != nil {
		client = tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	}
	send(t, client, upgrade+early)
	module = accept(t, f)
	return client, module
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// accept returns the next connection for the module.
func accept(t *testing.T, f *Front) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := f.Accept()
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			t.Fatal(r.err)
		}
		t.Cleanup(func() { r.conn.Close() })
		if err := r.conn.SetDeadline(time.Now().Add(pttest.Patience)); err != nil {
			t.Fatal(err)
		}
		return r.conn
	case <-time.After(pttest.Patience):
		t.Fatal("nothing is handed on")
	}
	return nil
}

// expect reads a text.
func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got[:n], err, want)
	}
}

// expectEnd reads the end of a direction.
func expectEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v; want the end", n, err)
	}
}

// records is a log that a test reads.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *records) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (r *records) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.text.String(), text)
}
