package ptproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"waterproxy/internal/ptargs"
)

// The parts of SOCKS5 (RFC 1928 and 1929) that tor uses towards a pluggable
// transport.
const (
	socksVersion     = 5
	socksNoAuth      = 0
	socksPassword    = 2
	socksAuthVersion = 1
	socksConnect     = 1
	socksIPv4        = 1
	socksName        = 3
	socksIPv6        = 4
)

// socksReply is a refusal by a SOCKS proxy.
type socksReply byte

func (r socksReply) Error() string {
	texts := map[socksReply]string{
		1: "general failure", 2: "not allowed by ruleset", 3: "network unreachable",
		4: "host unreachable", 5: "connection refused", 6: "TTL expired",
		7: "command not supported", 8: "address type not supported",
	}
	text, known := texts[r]
	if !known {
		text = "unknown reason"
	}
	return fmt.Sprintf("SOCKS reply %d: %s", byte(r), text)
}

// Dial asks a client, at proxy, for a connection to target, an address with a port, as tor
// does: with a bridge line's arguments as user name and password. The end of ctx ends what
// goes on until the client's answer.
func Dial(ctx context.Context, proxy, target string, args map[string][]string) (*net.TCPConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = socksHandshake(c, target, args)
	if !stop() && err == nil { // closed just after the handshake
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func socksHandshake(c io.ReadWriter, target string, args map[string][]string) error {
	request, err := socksRequest(target)
	if err != nil {
		return err
	}
	method := byte(socksNoAuth)
	if len(args) > 0 {
		method = socksPassword
	}
	if _, err := c.Write([]byte{socksVersion, 1, method}); err != nil {
		return fmt.Errorf("SOCKS methods: %w", err)
	}
	var two [2]byte
	if _, err := io.ReadFull(c, two[:]); err != nil {
		return fmt.Errorf("SOCKS methods: %w", err)
	}
	if two != [2]byte{socksVersion, method} {
		return fmt.Errorf("SOCKS methods: answer % x, want % x", two, []byte{socksVersion, method})
	}
	if method == socksPassword {
		auth, err := socksAuth(args)
		if err != nil {
			return err
		}
		if _, err := c.Write(auth); err != nil {
			return fmt.Errorf("SOCKS authentication: %w", err)
		}
		if _, err := io.ReadFull(c, two[:]); err != nil {
			return fmt.Errorf("SOCKS authentication: %w", err)
		}
		if two[1] != 0 {
			return fmt.Errorf("SOCKS authentication: the transport refused its arguments (status %d)", two[1])
		}
	}
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("SOCKS request: %w", err)
	}
	return readSOCKSReply(c)
}

// socksAuth returns the message with a user name and a password.
func socksAuth(args map[string][]string) ([]byte, error) {
	user, password, err := ptargs.Credentials(args)
	if err != nil {
		return nil, err
	}
	message := []byte{socksAuthVersion, byte(len(user))}
	message = append(message, user...)
	message = append(message, byte(len(password)))
	return append(message, password...), nil
}

func socksRequest(target string) ([]byte, error) {
	addr, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, fmt.Errorf("SOCKS target: %w", err)
	}
	kind := byte(socksIPv4)
	if ip := addr.Addr().Unmap(); ip.Is6() {
		kind = socksIPv6
	}
	message := []byte{socksVersion, socksConnect, 0, kind}
	message = append(message, addr.Addr().Unmap().AsSlice()...)
	return append(message, byte(addr.Port()>>8), byte(addr.Port())), nil
}

// readSOCKSReply reads the whole reply, bound address included, and not a byte
// more.
func readSOCKSReply(r io.Reader) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("SOCKS reply: %w", err)
	}
	if head[0] != socksVersion {
		return fmt.Errorf("SOCKS reply: version %d", head[0])
	}
	if head[1] != 0 {
		return socksReply(head[1])
	}
	rest := 2 // the port
	switch head[3] {
	case socksIPv4:
		rest += net.IPv4len
	case socksIPv6:
		rest += net.IPv6len
	case socksName:
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return fmt.Errorf("SOCKS reply: %w", err)
		}
		rest += int(n[0])
	default:
		return fmt.Errorf("SOCKS reply: address type %d", head[3])
	}
	if _, err := io.ReadFull(r, make([]byte, rest)); err != nil {
		return fmt.Errorf("SOCKS reply: %w", err)
	}
	return nil
}
