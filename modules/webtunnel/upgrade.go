package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"strings"

	"waterproxy/watm"
)

// http11 is the protocol of the upgrade, as TLS names it (ALPN).
const http11 = "http/1.1"

// maxHead bounds the head of a request or answer, in bytes.
const maxHead = 16 << 10

var (
	errLongHead = fmt.Errorf("the head of the message is longer than %d bytes", maxHead)
	errNoHTTP   = errors.New("the server does not speak HTTP/1.1")
	errHead     = errors.New("the head of the message is malformed")
	errNoSwitch = errors.New("the server switched to another protocol than the bridge's")
	errNoAnswer = errors.New("the server closed the connection instead of answering: the bridge behind it is down, or a web server in front of it does not pass the upgrade on")
)

// readHead reads the head of a message up to its empty line, and returns what came behind
// that as well. check sees what has come so far, and may end it.
func readHead(r io.Reader, check func(soFar []byte) error) (head, rest []byte, err error) {
	buf := make([]byte, 0, 2<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(2*cap(buf), maxHead)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if end := headEnd(buf); end > 0 {
			return buf[:end], buf[end:], nil
		}
		if err := check(buf); err != nil {
			return nil, nil, err
		}
		switch {
		case err != nil:
			return nil, nil, err
		case len(buf) == maxHead:
			return nil, nil, errLongHead
		}
	}
}

// headEnd returns the index behind the first empty line, 0 if there is none. Lines end with
// a line feed, before which a carriage return may stand (RFC 9112, section 2.2).
func headEnd(b []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0
		}
		if n == 0 || n == 1 && b[at] == '\r' {
			return at + n + 1
		}
		at += n + 1
	}
}

// parseHead returns the first line and the fields.
func parseHead(head []byte) (line string, fields textproto.MIMEHeader, err error) {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	if line, err = r.ReadLine(); err != nil {
		return "", nil, errHead
	}
	if fields, err = r.ReadMIMEHeader(); err != nil {
		return "", nil, errHead
	}
	return line, fields, nil
}

// isUpgrade reports whether the fields of a message switch to the protocol that all sides
// call websocket. Connection may have more than that in it: a front adds keep-alive.
func isUpgrade(fields textproto.MIMEHeader) bool {
	return hasToken(fields["Connection"], "upgrade") && hasToken(fields["Upgrade"], "websocket")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// ask sends the request of an upgrade, and returns what has come behind the answer. Nothing is
// to be sent before that has come: a server may throw away what it read with the request.
func ask(conn watm.Conn, b *bridge) (rest []byte, err error) {
	if _, err := io.WriteString(conn, b.request()); err != nil {
		return nil, err
	}
	head, rest, err := readHead(conn, checkAnswer)
	if err != nil {
		return nil, err
	}
	line, fields, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	protocol, code, _ := strings.Cut(line, " ")
	code, _, _ = strings.Cut(code, " ")
	switch {
	case protocol != "HTTP/1.1":
		return nil, errNoHTTP
	case code != "101":
		return nil, describeStatus(code)
	case !isUpgrade(fields):
		return nil, errNoSwitch
	}
	return rest, nil
}

// checkAnswer ends an answer that cannot be one.
func checkAnswer(soFar []byte) error {
	const begin = "HTTP/"
	if n := min(len(soFar), len(begin)); string(soFar[:n]) != begin[:n] {
		return errNoHTTP
	}
	return nil
}

// request is what the imitated browser sends for a WebSocket. Behind a fingerprint of none
// that is known it is what other clients of the protocol send.
func (b *bridge) request() string {
	host := b.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	agent := b.fingerprint.agent()
	if agent == "" {
		return "GET " + b.path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Go-http-client/1.1\r\n" +
			"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	}
	origin := "http://"
	if b.tls {
		origin = "https://"
	}
	var key [16]byte
	_, _ = rand.Read(key[:]) // it never fails
	return "GET " + b.path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nPragma: no-cache\r\n" +
		"Cache-Control: no-cache\r\nUser-Agent: " + agent + "\r\nUpgrade: websocket\r\nOrigin: " + origin + host + "\r\n" +
		"Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n" +
		"Sec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key[:]) + "\r\n" +
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
}

// answer reads the request of an upgrade and answers it. A front has seen to the path.
func answer(wire watm.Conn) (watm.Conn, error) {
	head, rest, err := readHead(wire, func([]byte) error { return nil })
	if err != nil {
		return nil, err
	}
	line, fields, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(line, " HTTP/1.1") || !isUpgrade(fields) {
		return nil, errors.New("the request is not for an upgrade to websocket")
	}
	text := "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
	if key := fields.Get("Sec-WebSocket-Key"); key != "" {
		text += "Sec-WebSocket-Accept: " + acceptKey(key) + "\r\n" // a front may look at it
	}
	if _, err := io.WriteString(wire, text+"\r\n"); err != nil {
		return nil, err
	}
	return putBack(wire, rest), nil
}

// acceptKey is the answer to a browser's key (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// putBack returns conn with bytes that come before its own.
func putBack(conn watm.Conn, first []byte) watm.Conn {
	if len(first) == 0 {
		return conn
	}
	return &prefixed{Conn: conn, first: append([]byte(nil), first...)}
}

// prefixed is a connection with bytes that come before its own. That is rare: a peer speaks
// early.
type prefixed struct {
	watm.Conn
	first []byte
}

// Read implements net.Conn.
func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	if c.first = c.first[n:]; len(c.first) == 0 {
		c.first = nil
	}
	return n, nil
}

// describeStatus says what an answer means that is not 101.
func describeStatus(code string) error {
	said := "the server answered " + statusText(code)
	switch {
	case len(code) != 3 || strings.Trim(code, "0123456789") != "":
		return errNoHTTP
	case code[0] == '3':
		return errors.New(said + ", a redirect: the bridge is not at the url of the bridge line (any more)")
	case code[0] == '2':
		return errors.New(said + " with a page of its own: the path of the url is not the bridge's, or a proxy on the way does not pass the upgrade on")
	case code == "404", code == "403", code == "410":
		return errors.New(said + ": the path of the url is not the bridge's, or the bridge is gone")
	case code == "502", code == "503", code == "504":
		return errors.New(said + ": the bridge behind the web server is down")
	}
	return errors.New(said + " instead of switching protocols: the url is not the bridge's, or a proxy on the way does not pass the upgrade on")
}

// statusText names the usual statuses (RFC 9110, section 15).
func statusText(code string) string {
	text := map[string]string{
		"200": "OK", "204": "No Content", "301": "Moved Permanently", "302": "Found", "303": "See Other",
		"307": "Temporary Redirect", "308": "Permanent Redirect", "400": "Bad Request", "401": "Unauthorized",
		"403": "Forbidden", "404": "Not Found", "405": "Method Not Allowed", "408": "Request Timeout", "410": "Gone",
		"421": "Misdirected Request", "426": "Upgrade Required", "429": "Too Many Requests",
		"500": "Internal Server Error", "502": "Bad Gateway", "503": "Service Unavailable", "504": "Gateway Timeout",
	}[code]
	if text == "" {
		return code
	}
	return code + " " + text
}

// describeHTTP puts an error of the upgrade into the operator's words.
func describeHTTP(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errNoAnswer
	}
	return err
}
