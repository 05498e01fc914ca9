package web

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// forwardedPort is the port of a client whose address comes from a proxy, which does not
// know it. It is the one that the WebTunnel servers of others use.
const forwardedPort = 60000

// clientAddr returns the address of a client. If the peer is a trusted proxy, it is what the
// X-Forwarded-For of the request ends with, proxies that are trusted left out: each proxy
// adds who has connected to it, and what comes before that is the client's own word. An
// element that is no address ends the search.
func clientAddr(peer net.Addr, forwarded []string, trusted []netip.Prefix) net.Addr {
	isTrusted := func(addr netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	at, err := netip.ParseAddrPort(peer.String())
	if err != nil || !isTrusted(plainAddr(at.Addr())) {
		return peer
	}
	client := peer
	elements := strings.Split(strings.Join(forwarded, ","), ",")
	for _, text := range slices.Backward(elements) {
		addr, ok := parseForwarded(text)
		if !ok {
			break
		}
		client = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, forwardedPort))
		if !isTrusted(addr) {
			break
		}
	}
	return client
}

// plainAddr returns an address as prefixes have it.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// parseForwarded reads an element of X-Forwarded-For; some proxies add a port.
func parseForwarded(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return plainAddr(withPort.Addr()), true
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return plainAddr(addr), err == nil
}
