// Package outbound makes the network connections of a managed proxy: through the
// upstream proxy and from the source addresses that tor asks for.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Dialer makes connections. The zero value makes them as net.Dialer does.
type Dialer struct {
	// Proxy is what every connection goes through; nil for none.
	Proxy *Proxy
	// Source4 and Source6 are the source addresses of connections that leave this
	// machine, if they are valid.
	Source4, Source6 netip.Addr
}

// errNotTCP: a proxy carries nothing else, and nothing goes past it.
var errNotTCP = errors.New("the upstream proxy carries TCP connections only")

// DialContext connects to an address (those of net.Dial). With a proxy, host names
// are left to it: looking them up here would tell others where it is to connect to.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Proxy == nil {
		return d.direct(ctx, network, address)
	}
	if !strings.HasPrefix(network, "tcp") {
		return nil, errNotTCP
	}
	return d.Proxy.dial(ctx, d.direct, address)
}

// direct connects without the proxy.
func (d *Dialer) direct(ctx context.Context, network, address string) (net.Conn, error) {
	if !d.Source4.IsValid() && !d.Source6.IsValid() {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	hosts, err := lookUp(ctx, network, host)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	for _, ip := range hosts {
		from := net.Dialer{LocalAddr: d.LocalAddr(network, ip)}
		if conn, err = from.DialContext(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// lookUp returns the addresses of a host: at least one of the network's family.
func lookUp(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	family := "ip" + strings.TrimLeft(network, "tcpud")
	return net.DefaultResolver.LookupNetIP(ctx, family, host)
}

// LocalAddr returns the source address for a connection to ip, for net.Dialer; nil
// if the system is to choose. To this machine itself it always is.
func (d *Dialer) LocalAddr(network string, ip netip.Addr) net.Addr {
	source := d.Source6
	if ip.Unmap().Is4() {
		source = d.Source4
	}
	if !source.IsValid() || ip.Unmap().IsLoopback() {
		return nil
	}
	if strings.HasPrefix(network, "udp") {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
}

// ParseSource4 reads TOR_PT_OUTBOUND_BIND_ADDRESS_V4 (pt-spec 3.2.1); empty is no
// address.
func ParseSource4(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", s)
	}
	return ip, nil
}

// ParseSource6 reads TOR_PT_OUTBOUND_BIND_ADDRESS_V6, whose address is in square
// brackets.
func ParseSource6(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	inner, opened := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	ip, err := netip.ParseAddr(inner)
	if err != nil || !opened || !closed || !ip.Is6() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv6 address in square brackets", s)
	}
	return ip, nil
}
