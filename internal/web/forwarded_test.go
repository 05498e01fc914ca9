package web

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"waterproxy/internal/pttest"
)

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, test := range []struct{ peer, forwarded, want string }{
		{"127.0.0.1:1", "192.0.2.7", "192.0.2.7:60000"},
		{"[::ffff:127.0.0.1]:1", "192.0.2.7", "192.0.2.7:60000"},
		{"[2001:db8::1]:1", "2001:4860::7", "[2001:4860::7]:60000"},
		{"127.0.0.1:1", " 192.0.2.7:4711 ", "192.0.2.7:60000"},
		{"127.0.0.1:1", "[2001:4860::7]:4711", "[2001:4860::7]:60000"},
		{"127.0.0.1:1", "[2001:4860::7]", "[2001:4860::7]:60000"},
		{"127.0.0.1:1", "::ffff:192.0.2.7", "192.0.2.7:60000"},
		{"127.0.0.1:1", "fe80::1%eth0", "[fe80::1]:60000"},
		// What the client has put there comes first.
		{"127.0.0.1:1", "203.0.113.5, 192.0.2.7", "192.0.2.7:60000"},
		{"127.0.0.1:1", "203.0.113.5|192.0.2.7", "192.0.2.7:60000"},
		{"127.0.0.1:1", "10.1.1.1, 192.0.2.7", "192.0.2.7:60000"},
		// Proxies behind each other.
		{"127.0.0.1:1", "203.0.113.5, 192.0.2.7, 10.0.0.1, 127.0.0.1", "192.0.2.7:60000"},
		{"127.0.0.1:1", "10.0.0.7, 10.0.0.1", "10.0.0.7:60000"},
		// What is no address ends the search.
		{"127.0.0.1:1", "192.0.2.7, nonsense", "127.0.0.1:1"},
		{"127.0.0.1:1", "192.0.2.7, nonsense, 10.0.0.1", "10.0.0.1:60000"},
		{"127.0.0.1:1", "", "127.0.0.1:1"},
		{"127.0.0.1:1", ",", "127.0.0.1:1"},
		{"127.0.0.1:1", "unknown", "127.0.0.1:1"},
		// Who is not trusted says nothing.
		{"192.0.2.9:5", "192.0.2.7", "192.0.2.9:5"},
		{"192.0.2.9:5", "", "192.0.2.9:5"},
	} {
		peer := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.peer))
		got := clientAddr(peer, strings.Split(test.forwarded, "|"), trusted)
		if got.String() != test.want && got != net.Addr(peer) || got == net.Addr(peer) && test.want != test.peer {
			t.Errorf("%s, %q: %v, want %s", test.peer, test.forwarded, got, test.want)
		}
	}
}

// The address of a client behind a proxy is that of the connection.
func TestForwarded(t *testing.T) {
	f := start(t, Config{Web: parse(t, "x.toml", "trusted-proxies = ['127.0.0.1']")}, usualTimes)
	client := pttest.Dial(t, f.Addr().String())
	send(t, client, strings.Replace(upgrade, "\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.5\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n", 1))
	if got := accept(t, f).RemoteAddr().String(); got != "192.0.2.7:60000" {
		t.Errorf("the client's address is %s", got)
	}
	other := start(t, Config{Web: parse(t, "x.toml", "trusted-proxies = ['192.0.2.1']")}, usualTimes)
	client = pttest.Dial(t, other.Addr().String())
	send(t, client, strings.Replace(upgrade, "\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n", 1))
	if got, want := accept(t, other).RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Errorf("the client's address is %s, want %s", got, want)
	}
}
