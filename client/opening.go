package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// notSOCKS is what came to a SOCKS port in the place of a SOCKS5 request, in words of our
// own: the log counts by them, and has nothing of the contents.
type notSOCKS string

func (e notSOCKS) Error() string { return string(e) }

// errNoRequest means that a connection ended before its first byte.
var errNoRequest = errors.New("no request")

const httpHead = "HTTP/1.0 501 This is a SOCKS5 proxy, not an HTTP proxy\r\n" +
	"Content-Type: text/html; charset=us-ascii\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"

const httpBody = `<!DOCTYPE html>
<html>
<head><title>This is a SOCKS5 proxy, not an HTTP proxy</title></head>
<body>
<h1>This is a SOCKS5 proxy, not an HTTP proxy.</h1>
<p>The address and port that you have configured as an HTTP proxy, or have opened in a
browser, are those of a SOCKS5 proxy. Configure them as a SOCKS5 proxy (SOCKS v5)
instead.</p>
</body>
</html>
`

// httpAnswer is for an HTTP client, which shows it to its user.
var httpAnswer = fmt.Sprintf(httpHead, len(httpBody), httpBody)

// socks4Rejected is a reply of SOCKS4: request rejected or failed.
const socks4Rejected = "\x00\x5b\x00\x00\x00\x00\x00\x00"

// opening is how a protocol begins.
type opening struct {
	bytes  string
	what   notSOCKS // "" for SOCKS5
	answer string
}

var openings = httpOpenings(
	opening{bytes: "\x05"},
	opening{"\x04", "SOCKS4 request instead of SOCKS5", socks4Rejected},
	opening{"CONNECT ", "HTTP CONNECT request instead of SOCKS5", httpAnswer},
	opening{"PRI * HTTP/2", "HTTP request instead of SOCKS5", ""},
	opening{"\x16\x03", "TLS ClientHello instead of SOCKS5", ""},
	opening{"\x00\x00\x07", "tor's link protocol instead of SOCKS5", ""},
	opening{"AUTHENTICATE", "tor's control protocol instead of SOCKS5", ""},
	opening{"PROTOCOLINFO", "tor's control protocol instead of SOCKS5", ""},
)

func httpOpenings(others ...opening) []opening {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"} {
		others = append(others, opening{method + " ", "HTTP request instead of SOCKS5", httpAnswer})
	}
	return others
}

// find returns the opening with which data begins, nil if there is none. more reports
// whether there may be one once more bytes have come.
func find(data string) (found *opening, more bool) {
	for i := range openings {
		o := &openings[i]
		if strings.HasPrefix(data, o.bytes) {
			return o, false
		}
		more = more || strings.HasPrefix(o.bytes, data)
	}
	return nil, more
}

// opened is a connection whose first byte has been read, and is read again by its user.
// The connection below can be used directly after that byte.
type opened struct {
	net.Conn
	first  []byte
	failed error // of the last Read
}

func (c *opened) Read(p []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	n, c.failed = c.Conn.Read(p)
	return n, c.failed
}

// whyNoRequest describes a SOCKS5 request that could not be read.
func (c *opened) whyNoRequest() error {
	switch {
	case errors.Is(c.failed, os.ErrDeadlineExceeded):
		return notSOCKS("SOCKS5 request that was not complete in time")
	case c.failed != nil:
		return notSOCKS("SOCKS5 request that was cut off")
	}
	return notSOCKS("malformed or unsupported SOCKS5 request")
}

// awaitSOCKS waits for the first byte of a SOCKS5 request. What sends another one is
// answered in its own protocol, if that has an answer; the error names that protocol. The
// connection keeps a deadline.
func awaitSOCKS(conn net.Conn) (*opened, error) {
	if err := conn.SetDeadline(time.Now().Add(socksTimeout)); err != nil {
		return nil, errNoRequest // it is closed
	}
	var data []byte
	for {
		// SOCKS5 is known by one byte, after which nothing must be lost.
		b := make([]byte, 1)
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, noOpening(len(data), err)
		}
		data = append(data, b[0])
		found, more := find(string(data))
		switch {
		case found != nil && found.what == "":
			return &opened{Conn: conn, first: data}, nil
		case found != nil:
			refuse(conn, found.answer)
			return nil, found.what
		case !more:
			refuse(conn, "")
			return nil, notSOCKS("unknown bytes instead of SOCKS5")
		}
	}
}

// noOpening describes a connection that ended, or its time, before it was clear what it
// carries.
func noOpening(bytes int, err error) error {
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case bytes > 0:
		return notSOCKS("unknown bytes instead of SOCKS5")
	case late:
		return notSOCKS("no request in time")
	}
	return errNoRequest
}

// maxRefused bounds what is read of a request that is refused, in bytes.
const maxRefused = 64 << 10

// refuse answers, and reads the rest of the request: a connection that is closed with
// bytes unread is reset, and its client may not see the answer. The connection's deadline
// bounds it.
func refuse(conn net.Conn, answer string) {
	if _, err := io.WriteString(conn, answer); err != nil {
		return // the client has gone
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxRefused) // only the end of it matters
	}
}
