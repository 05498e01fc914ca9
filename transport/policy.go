package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// An AddressRule grants a module a set of addresses that it may choose to dial.
// Make one with [ParseAddressRule].
type AddressRule struct {
	text     string
	argument string       // whose value has the address; if not "", the rest is that of no address
	network  string       // "tcp" or "udp"
	prefix   netip.Prefix // addresses, if valid
	name     string       // otherwise a host name; "" with suffix "" is any
	suffix   string       // or the end of one, with its dot
	any      bool
	low      uint16 // ports, inclusive
	high     uint16
}

// ParseAddressRule parses [NETWORK/]HOST:PORT, or @ARGUMENT.
//
//	NETWORK  tcp (the default) or udp
//	HOST     an IP address, a prefix (10.0.0.0/8, [fd00::]/8), a host name,
//	         *.example.com for every name below example.com, or *
//	PORT     a number, a range (8000-8999), or *
//	ARGUMENT a name in bridge lines, as in @url: an outgoing connection may go by TCP to the
//	         address that this argument of its own has, which is HOST:PORT or a URL of
//	         https (port 443 if it has none) or http (80). It grants a server nothing.
//
// Rules with a name or * grant public addresses only, whatever the name resolves
// to: loopback, private, link-local and other special addresses must be named by
// a rule with an address or a prefix.
func ParseAddressRule(s string) (AddressRule, error) {
	r := AddressRule{text: s, network: "tcp"}
	bad := func(why string) (AddressRule, error) {
		return AddressRule{}, &Error{"parse address rule", ErrConfig, fmt.Errorf("%q: %s", s, why)}
	}
	rest := s
	for _, n := range []string{"tcp", "udp"} {
		if after, ok := strings.CutPrefix(s, n+"/"); ok {
			r.network, rest = n, after
		}
	}
	if name, ok := strings.CutPrefix(s, "@"); ok {
		r.argument, r.low, r.high = name, 1, 65535
		if !argumentName.MatchString(name) {
			return bad("not the name of an argument of bridge lines")
		}
		return r, nil
	}
	at := strings.LastIndexByte(rest, ':')
	if at < 0 || strings.HasSuffix(rest, "]") {
		return bad("a port is missing; * is any")
	}
	host, port := rest[:at], rest[at+1:]
	var err error
	if r.low, r.high, err = parsePorts(port); err != nil {
		return bad(err.Error())
	}
	if strings.Count(host, "[") != strings.Count(host, "]") {
		return bad("not a host")
	}
	plain := strings.NewReplacer("[", "", "]", "").Replace(host)
	switch addr, addrErr := netip.ParseAddr(plain); {
	case addrErr == nil:
		r.prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	case strings.Contains(plain, "/"):
		if r.prefix, err = netip.ParsePrefix(plain); err != nil {
			return bad("not an address prefix")
		}
		r.prefix = r.prefix.Masked()
	case host == "*":
		r.any = true
	case strings.HasPrefix(host, "*."):
		r.suffix = normalName(host[1:])
	case host == "" || strings.ContainsAny(host, "*[]: "):
		return bad("not a host")
	default:
		r.name = normalName(host)
	}
	return r, nil
}

// argumentName matches the names of arguments that a rule may have.
var argumentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Argument returns the name of the argument of the bridge line that has the address which
// the rule grants, "" if the rule has the address itself.
func (r AddressRule) Argument() string { return r.argument }

// For returns the rules for a connection with these arguments: r itself, unless it names an
// argument; otherwise one for each address that the argument has, with names and addresses
// as the rules of [ParseAddressRule] have them. A value that is no address grants nothing.
func (r AddressRule) For(args Args) (rules []AddressRule) {
	if r.argument == "" {
		return []AddressRule{r}
	}
	for _, value := range args[r.argument] {
		host, port := hostAndPort(value)
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || strings.ContainsAny(host, "*/") {
			continue // a bridge line grants one address and no range of them
		}
		if rule, err := ParseAddressRule(net.JoinHostPort(host, port)); err == nil {
			rules = append(rules, rule)
		}
	}
	return rules
}

// hostAndPort returns the address of a URL or of HOST:PORT; both are empty if there is none.
func hostAndPort(value string) (host, port string) {
	if u, err := url.Parse(value); err == nil && u.Host != "" {
		if port = u.Port(); port == "" {
			port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
		}
		return u.Hostname(), port
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return "", ""
	}
	return host, port
}

// normalName makes two spellings of a host name equal.
func normalName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

func parsePorts(s string) (low, high uint16, err error) {
	if s == "*" {
		return 1, 65535, nil
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	l, err1 := strconv.ParseUint(from, 10, 16)
	h, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || l == 0 || l > h {
		return 0, 0, fmt.Errorf("%q is no port, range of ports or *", s)
	}
	return uint16(l), uint16(h), nil
}

// String returns the rule as it was parsed.
func (r AddressRule) String() string { return r.text }

// Ports returns the network, "tcp" or "udp", and the ports that the rule grants, from low
// to high: all of them, if the address is that of an argument.
func (r AddressRule) Ports() (network string, low, high uint16) { return r.network, r.low, r.high }

// Covers reports whether r grants at least what o does.
func (r AddressRule) Covers(o AddressRule) bool {
	if r.network != o.network || o.low < r.low || o.high > r.high {
		return false
	}
	if r.argument != "" || o.argument != "" {
		return r.argument == o.argument
	}
	switch {
	case o.prefix.IsValid():
		return r.prefix.IsValid() && r.prefix.Bits() <= o.prefix.Bits() && r.prefix.Contains(o.prefix.Addr())
	case o.any, o.suffix != "":
		return r.any || o.suffix != "" && r.suffix != "" && strings.HasSuffix(o.suffix, r.suffix)
	}
	return r.namesHost(o.name)
}

func (r AddressRule) hasPort(network string, port uint16) bool {
	return r.network == network && r.low <= port && port <= r.high
}

// namesHost reports whether the rule grants public addresses of a host name, or
// of an address that was given as such.
func (r AddressRule) namesHost(host string) bool {
	switch {
	case r.prefix.IsValid():
		return false
	case r.any:
		return true
	case r.suffix != "":
		return strings.HasSuffix(host, r.suffix)
	}
	return host == r.name
}

// special lists the ranges that a rule must name to grant them, beyond those
// that netip has methods for (IANA special-purpose address registries).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),   // shared address space, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments, RFC 6890
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation, RFC 5737
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking, RFC 2544
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays, RFC 7526
	netip.MustParsePrefix("2001::/23"),       // Teredo and other assignments
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4: likewise
	netip.MustParsePrefix("3fff::/20"), // documentation, RFC 9637
}

// globalIPv6 is all of IPv6 that is assigned for global use (RFC 4291, 2.4).
var globalIPv6 = netip.MustParsePrefix("2000::/3")

func isPublic(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !globalIPv6.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// granted returns the addresses of host that rules grant for a network and
// port, in the resolver's order, or, with DialNames, a name unresolved. A host that no
// rule mentions is not looked up.
func (c *Config) granted(ctx context.Context, rules []AddressRule, network, host string, port uint16) (hosts []string, err error) {
	var named bool
	var prefixes []netip.Prefix
	host = normalName(host)
	for _, r := range rules {
		if !r.hasPort(network, port) {
			continue
		}
		named = named || r.namesHost(host)
		if r.prefix.IsValid() {
			prefixes = append(prefixes, r.prefix)
		}
	}
	if !named && len(prefixes) == 0 {
		return nil, errNotGranted
	}
	found := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		found = append(found, a)
	} else if !named {
		return nil, errNotGranted // prefixes grant addresses, not names
	} else if c.DialNames {
		return []string{host}, nil
	} else if found, err = c.Resolve(ctx, host); err != nil {
		return nil, &Error{"look up", ErrNetwork, err}
	}
	for _, a := range found {
		a = a.Unmap().WithZone("")
		ok := named && isPublic(a)
		for _, p := range prefixes {
			ok = ok || p.Contains(a)
		}
		if ok {
			hosts = append(hosts, a.String())
		}
	}
	if len(hosts) == 0 {
		return nil, errNotGranted
	}
	return hosts, nil
}

// errNotGranted does not name the address: it may be that of a bridge.
var errNotGranted = &Error{"dial", ErrPolicy, errors.New("the module asked for an address that it is not granted; an address rule could grant it")}

// dialGranted connects to an address of the module's choice, for a connection with these
// arguments.
func (c *Config) dialGranted(ctx context.Context, args Args, network, address string) (net.Conn, error) {
	base := strings.TrimRight(network, "46")
	host, portText, err := net.SplitHostPort(address)
	port, perr := strconv.ParseUint(portText, 10, 16)
	if err != nil || perr != nil || base != "tcp" && base != "udp" {
		return nil, &Error{"dial", ErrModule, errors.New("the module asked for something that is no TCP or UDP address with a port number")}
	}
	var rules []AddressRule
	for _, r := range c.Allow {
		rules = append(rules, r.For(args)...)
	}
	hosts, err := c.granted(ctx, rules, base, host, uint16(port))
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		var conn net.Conn
		if conn, err = c.Dial(ctx, network, net.JoinHostPort(h, portText)); err == nil {
			return conn, nil
		}
	}
	return nil, &Error{"dial", ErrNetwork, err}
}

// resolve is the default of Config.Resolve.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
