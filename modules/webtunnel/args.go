package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"waterproxy/watm"
)

// Errors name the argument alone and quote no value, since they end up in logs.

// bridge is what the arguments of a bridge line say.
type bridge struct {
	tls  bool
	dial string // HOST:PORT
	host string // of the url, in the Host header
	path string // escaped, with its first slash
	// names are those that the server is asked for (SNI), one of them at a time. There is
	// at least one with TLS.
	names []string
	// verify is the name that the certificate must be for; empty if that is the one that
	// the server was asked for.
	verify      string
	pin         []byte // of the certificates; nil if authorities vouch for them
	fingerprint *fingerprint
}

// CheckArgs implements watm.ArgsChecker.
func (*webtunnel) CheckArgs(args watm.Args) error {
	if _, err := parseBridge(args); err != nil {
		return fmt.Errorf("%w; copy the whole bridge line", err)
	}
	return nil
}

// parseBridge reads the arguments of a bridge line.
func parseBridge(args watm.Args) (*bridge, error) {
	err := args.CheckOnce("url", "ver", "servername", "addr", "utls", "cert", "sni-imitation", "cert-domain")
	if err != nil {
		return nil, err
	}
	u, err := parseURL(args)
	if err != nil {
		return nil, err
	}
	b := &bridge{tls: u.Scheme == "https", host: u.Hostname(), path: u.EscapedPath()}
	if !strings.HasPrefix(b.path, "/") {
		b.path = "/" + b.path
	}
	b.dial = net.JoinHostPort(b.host, portOf(u))
	if err := checkVersion(args); err != nil {
		return nil, err
	}
	if addr, ok := args.Get("addr"); ok {
		if !isAddress(addr) {
			return nil, errors.New("the argument addr is not HOST:PORT")
		}
		b.dial = addr
	}
	if err := b.readNames(args); err != nil {
		return nil, err
	}
	if b.pin, err = readPin(args); err != nil {
		return nil, err
	}
	name, _ := args.Get("utls")
	if b.fingerprint = findFingerprint(name); b.fingerprint == nil {
		return nil, errors.New("the argument utls names no known fingerprint (hellochrome_auto and hellofirefox_auto are two, and none is Go's own TLS)")
	}
	return b, nil
}

// readNames reads which names the server is asked for and has to prove.
func (b *bridge) readNames(args watm.Args) error {
	b.names = []string{b.host}
	if name, ok := args.Get("sni-imitation"); ok {
		if !isName(name) {
			return errors.New("the argument sni-imitation is not the name of a server")
		}
		b.names, b.verify = []string{name}, b.host
	}
	if list, ok := args.Get("servername"); ok {
		b.names = strings.Split(list, ",")
		for i, name := range b.names {
			b.names[i] = strings.TrimSpace(name)
			if !isName(b.names[i]) {
				return errors.New("the argument servername is not a list of names of servers, with commas between them")
			}
		}
	}
	if name, ok := args.Get("cert-domain"); ok {
		if !isName(name) {
			return errors.New("the argument cert-domain is not the name of a server")
		}
		b.verify = name
	}
	return nil
}

// readPin reads the hash of the server's certificates.
func readPin(args watm.Args) ([]byte, error) {
	text, ok := args.Get("cert")
	if !ok {
		return nil, nil
	}
	pin, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	switch {
	case err != nil:
		return nil, errors.New("the argument cert is not base64")
	case len(pin) != sha256.Size:
		return nil, fmt.Errorf("the argument cert is %d bytes long, not %d", len(pin), sha256.Size)
	}
	return pin, nil
}

// parseURL reads the argument url, which both sides have.
func parseURL(args watm.Args) (*url.URL, error) {
	text, ok := args.Get("url")
	if !ok {
		return nil, errors.New("the argument url is missing (https://HOST/SECRET-PATH)")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the argument url is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the argument url does not begin with https:// or http://")
	case u.Hostname() == "":
		return nil, errors.New("the argument url has no host")
	case !isName(u.Hostname()):
		return nil, errors.New("the host in the argument url is not one (a name with other letters than ASCII's has a form that begins with xn--)")
	case u.Port() != "" && !isPort(u.Port()), u.Port() == "" && strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("the port in the argument url is none")
	}
	return u, nil
}

// portOf returns the port of a URL.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// checkVersion checks the version of the server. Nothing depends on it, but one that is
// unknown may be of another protocol.
func checkVersion(args watm.Args) error {
	ver, ok := args.Get("ver")
	if !ok {
		return nil
	}
	patch, known := strings.CutPrefix(ver, "0.0.")
	if _, err := strconv.ParseUint(patch, 10, 16); !known || err != nil {
		return errors.New("the argument ver is not a version that this program knows (0.0.1, 0.0.2 and so on)")
	}
	return nil
}

// checkServerArgs checks ServerTransportOptions and returns the address that the server's
// bridge line has: nobody dials it, and it is another one for each url.
func checkServerArgs(args watm.Args) (address string, err error) {
	if err := args.CheckOnce("url"); err != nil {
		return "", err
	}
	if _, err := parseURL(args); err != nil {
		return "", fmt.Errorf("%w; the line ServerTransportOptions of torrc has url=https://HOST/SECRET-PATH", err)
	}
	text, _ := args.Get("url")
	ip := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	sum := sha256.Sum256([]byte("WEBTUNNEL+" + text))
	copy(ip[4:], sum[4:])
	return netip.AddrPortFrom(netip.AddrFrom16(ip), 443).String(), nil
}

// isName reports whether text may be a host: a name or an IP address.
func isName(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	if text == "" || len(text) > 253 {
		return false
	}
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && isName(host) && isPort(port)
}
