package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"waterproxy/transport"
)

// Proxy is an upstream proxy (TOR_PT_PROXY, pt-spec 3.2.2).
type Proxy struct {
	kind     string
	address  string // host:port
	user     string
	password string
	// trust is the TLS configuration for https; nil means the system's.
	trust *tls.Config
}

// The kinds of proxies, with how a connection asks them to be passed on.
var handshakes = map[string]func(*Proxy, context.Context, net.Conn, string) error{
	"http":    (*Proxy).connect,
	"https":   (*Proxy).connect,
	"socks4a": (*Proxy).socks4a,
	"socks5":  (*Proxy).socks5,
}

// ParseProxy reads KIND://[USER[:PASSWORD]@]HOST:PORT. Credentials that are
// percent-encoded, as the specification requires, are decoded. Others are taken
// as they are, because tor writes there what is in torrc: "p@ss/w%rd" is a password.
// Errors do not repeat the text, which may have a password in it.
func ParseProxy(s string) (*Proxy, error) {
	kind, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, errors.New("it is not of the form KIND://[USER:PASSWORD@]HOST:PORT")
	}
	p := &Proxy{kind: strings.ToLower(kind)}
	if _, known := handshakes[p.kind]; !known {
		return nil, errors.New("its kind is not supported; http, https, socks4a and socks5 are")
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		p.setCredentials(rest[:at])
		rest = rest[at+1:]
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	if err != nil || host == "" || strings.ContainsAny(host, "/?#% ") {
		return nil, errors.New("HOST:PORT is malformed or missing")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, errors.New("its port is no number from 1 to 65535")
	}
	p.address = net.JoinHostPort(host, port)
	return p, p.checkCredentials()
}

// Port returns the proxy's port.
func (p *Proxy) Port() uint16 {
	_, port, _ := net.SplitHostPort(p.address) // ParseProxy has
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

func (p *Proxy) setCredentials(text string) {
	// The parser of the standard library knows what has to be escaped.
	if u, err := url.Parse("x://" + text + "@h"); err == nil && u.Host == "h" && u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
		return
	}
	p.user, p.password, _ = strings.Cut(text, ":")
}

// checkCredentials tells whether the proxy's protocol can carry them.
func (p *Proxy) checkCredentials() error {
	switch {
	case p.kind == "socks4a" && p.password != "":
		return errors.New("SOCKS4a has a user name, but no password")
	case p.kind == "socks4a" && strings.ContainsRune(p.user, 0):
		return errors.New("the user name has a NUL in it")
	case p.kind == "socks5" && (len(p.user) > 255 || len(p.password) > 255):
		return errors.New("its user name or password is longer than the 255 bytes of SOCKS5")
	case p.kind == "socks5" && p.user == "" && p.password != "":
		return errors.New("it has a password but no user name")
	}
	return nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dial connects to an address through the proxy, to which direct connects.
func (p *Proxy) dial(ctx context.Context, direct dialFunc, address string) (net.Conn, error) {
	conn, err := direct(ctx, "tcp", p.address)
	if err != nil {
		return nil, p.failure(ctx, err)
	}
	raw := conn
	if p.kind == "https" {
		conn = tls.Client(conn, p.tlsConfig())
	}
	release := limit(ctx, raw)
	err = handshakes[p.kind](p, ctx, conn, address)
	if ended := release(); err == nil {
		err = ended
	}
	if err != nil {
		_ = conn.Close() // it is of no use, and its error would hide the other
		return nil, p.failure(ctx, err)
	}
	return conn, nil
}

// limit makes I/O on a connection fail once ctx ends, until release.
func limit(ctx context.Context, conn net.Conn) (release func() error) {
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // it fails on a closed connection only
	})
	return func() error {
		if !stop() {
			return ctx.Err()
		}
		return nil
	}
}

func (p *Proxy) tlsConfig() *tls.Config {
	cfg := new(tls.Config)
	if p.trust != nil {
		cfg = p.trust.Clone()
	}
	cfg.ServerName, _, _ = net.SplitHostPort(p.address) // it was parsed before
	return cfg
}

// failure is an error of the proxy. What the system reported about the connection to
// the proxy must not be taken for the bridge's: "refused" is not the bridge's answer.
func (p *Proxy) failure(ctx context.Context, err error) error {
	ended := ctx.Err()
	if errors.Is(err, os.ErrDeadlineExceeded) { // the connection's clock was faster
		ended = context.DeadlineExceeded
	}
	if ended != nil {
		return &transport.ProxyError{Kind: p.kind, Err: ended}
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // the rest is addresses
	}
	text := err.Error()
	if len(text) > maxReason { // the proxy's own words are in it
		text = text[:maxReason] + "..."
	}
	return &transport.ProxyError{Kind: p.kind, Err: errors.New(text)}
}

// maxReason is how many bytes of an error are worth keeping.
const maxReason = 200
