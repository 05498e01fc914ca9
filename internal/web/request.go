package web

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"waterproxy/transport"
)

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errURL
	}
	return u, nil
}

// serve answers every request. What is not an upgrade of the secret path goes to the pages,
// which know neither: whoever asks for the path, or upgrades another one, or does both by
// another method or version, gets the answer of any path that the site does not have. The
// work before that is the same for all.
func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	now := f.now.Load()
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	f.visitors.Renew(visitor(conn))
	path := sha256.Sum256([]byte(r.URL.EscapedPath()))
	known := subtle.ConstantTimeCompare(path[:], f.secret.hash[:])
	if known&isUpgrade(r) == 1 {
		f.handOn(w, r, now)
		return
	}
	now.pages.ServeHTTP(w, r)
}

// isUpgrade returns 1 for a request such as a WebSocket begins with, else 0. A body would
// not have been read.
func isUpgrade(r *http.Request) int {
	is := 0
	upgrades := httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
	toWebSocket := httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket")
	if upgrades && toWebSocket && r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.ContentLength == 0 {
		is = 1
	}
	return is
}

// handOn gives a connection to Accept, after which net/http keeps nothing of it.
func (f *Front) handOn(w http.ResponseWriter, r *http.Request, now *serving) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/1.1 has it
		kind, _ := transport.Kind(err)
		f.log.Error("a connection cannot be handed on to the module", transport.KindKey, kind, "error", transport.Scrub(err))
		return
	}
	defer f.visitors.Leave(visitor(conn))
	unread := head(r, f.secret.path)
	if n := buffered.Reader.Buffered(); n > 0 {
		// The bytes are there already, so that there is no error.
		early, _ := buffered.Reader.Peek(n)
		unread = append(unread, early...)
	}
	t := newTunnel(conn, unread, clientAddr(conn.RemoteAddr(), r.Header["X-Forwarded-For"], now.trusted))
	select {
	case f.tunnels <- t:
	case <-f.ctx.Done():
		_ = t.Close() // it has carried nothing
	}
}

// head returns the head of a request as the module gets it. It is made anew, and has what
// an upgrade needs and nothing else: a module is untrusted, and is not to see cookies, or
// the addresses that proxies add. net/http has refused what would break a line of it.
func head(r *http.Request, path string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", path, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			for _, value := range r.Header[name] {
				fmt.Fprintf(&b, "%s: %s\r\n", name, value)
			}
		}
	}
	b.WriteString("\r\n")
	return bytes.Clone(b.Bytes())
}
