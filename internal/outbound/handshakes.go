package outbound

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/net/proxy"
)

// maxHeader bounds an HTTP proxy's answer.
const maxHeader = 64 << 10

// connect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func (p *Proxy) connect(_ context.Context, conn net.Conn, address string) error {
	req := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: address},
		Host:   address,
		Header: http.Header{"User-Agent": {""}}, // which leaves it out
	}
	if p.user != "" || p.password != "" {
		basic := &http.Request{Header: http.Header{}}
		basic.SetBasicAuth(p.user, p.password)
		req.Header.Set("Proxy-Authorization", basic.Header.Get("Authorization"))
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// What follows the header is the tunnel's, so nothing may be read ahead.
	answer := bufio.NewReader(io.LimitReader(bytewise{conn}, maxHeader))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %q", resp.Status)
	}
	return nil
}

// bytewise reads one byte at a time.
type bytewise struct{ r io.Reader }

func (b bytewise) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:1]
	}
	return b.r.Read(p)
}

// socks5 asks a SOCKS5 proxy to connect (RFC 1928, 1929).
func (p *Proxy) socks5(ctx context.Context, conn net.Conn, address string) error {
	var auth *proxy.Auth
	if p.user != "" {
		auth = &proxy.Auth{User: p.user, Password: p.password}
	}
	d, err := proxy.SOCKS5("tcp", p.address, auth, connected{conn})
	if err != nil {
		return err
	}
	// What it returns wraps conn without adding anything that we need.
	_, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	return err
}

// connected is a dialer that has connected already.
type connected struct{ conn net.Conn }

func (c connected) Dial(string, string) (net.Conn, error) { return c.conn, nil }

func (c connected) DialContext(context.Context, string, string) (net.Conn, error) {
	return c.conn, nil
}

// The numbers of SOCKS4.
const (
	socks4Version = 4
	socks4Connect = 1
	socks4Granted = 0x5a
)

// socks4Errors are what the proxy's answer means.
var socks4Errors = map[byte]string{
	0x5b: "it refused or could not connect",
	0x5c: "it cannot reach this machine's identd",
	0x5d: "identd does not confirm the user name",
}

// socks4a asks a SOCKS4a proxy to connect. The protocol has no IPv6 addresses; one
// goes as a name, which proxies understand that look names up as the system does.
func (p *Proxy) socks4a(_ context.Context, conn net.Conn, address string) error {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return errors.New("the address has no port number")
	}
	ip, name := net.ParseIP(host).To4(), ""
	if ip == nil {
		ip, name = net.IPv4(0, 0, 0, 1).To4(), host+"\x00"
	}
	req := binary.BigEndian.AppendUint16([]byte{socks4Version, socks4Connect}, uint16(port))
	req = append(req, ip...)
	req = append(req, p.user+"\x00"+name...)
	if _, err := conn.Write(req); err != nil {
		return err
	}
	var answer [8]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if answer[0] != 0 {
		return errors.New("its answer is not SOCKS4")
	}
	if answer[1] != socks4Granted {
		if why, ok := socks4Errors[answer[1]]; ok {
			return errors.New(why)
		}
		return fmt.Errorf("it answered %d", answer[1])
	}
	return nil
}
