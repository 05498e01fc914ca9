package transport

import (
	"context"
	"errors"
	"net/netip"
	"testing"
)

func TestAddressPolicy(t *testing.T) {
	names := map[string][]string{
		"example.com":        {"93.184.216.34"},
		"a.example.com":      {"93.184.216.35"},
		"sneaky.example.com": {"127.0.0.1"},
		"mixed.example.com":  {"10.0.0.1", "93.184.216.36"},
	}
	for _, test := range []struct {
		rule, network, host string
		port                uint16
		want                string // the first address, "" if refused
	}{
		{"example.com:443", "tcp", "example.com", 443, "93.184.216.34"},
		{"example.com:443", "tcp", "EXAMPLE.com.", 443, "93.184.216.34"},
		{"example.com:443", "tcp", "example.com", 80, ""},
		{"example.com:443", "udp", "example.com", 443, ""},
		{"udp/example.com:443", "udp", "example.com", 443, "93.184.216.34"},
		{"example.com:443", "tcp", "a.example.com", 443, ""},
		{"*.example.com:400-500", "tcp", "a.example.com", 443, "93.184.216.35"},
		{"*.example.com:400-500", "tcp", "example.com", 443, ""},
		{"*.example.com:400-500", "tcp", "notexample.com", 443, ""},
		{"*.example.com:*", "tcp", "sneaky.example.com", 443, ""},
		{"*.example.com:*", "tcp", "mixed.example.com", 443, "93.184.216.36"},
		{"*:*", "tcp", "93.184.216.34", 1, "93.184.216.34"},
		{"*:*", "tcp", "127.0.0.1", 1, ""},
		{"*:*", "tcp", "::ffff:127.0.0.1", 1, ""},
		{"*:*", "tcp", "169.254.169.254", 80, ""},
		{"*:*", "tcp", "192.168.1.1", 80, ""},
		{"*:*", "tcp", "100.64.0.1", 80, ""},
		{"*:*", "tcp", "0.0.0.0", 80, ""},
		{"*:*", "tcp", "::1", 80, ""},
		{"*:*", "tcp", "fd00::1", 80, ""},
		{"*:*", "tcp", "fe80::1%eth0", 80, ""},
		{"*:*", "tcp", "64:ff9b::7f00:1", 80, ""},
		{"*:*", "tcp", "2002:7f00:1::", 80, ""},
		{"*:*", "tcp", "224.0.0.1", 80, ""},
		{"127.0.0.1:80", "tcp", "127.0.0.1", 80, "127.0.0.1"},
		{"127.0.0.1:80", "tcp", "::ffff:127.0.0.1", 80, "127.0.0.1"},
		{"127.0.0.1:80", "tcp", "127.0.0.2", 80, ""},
		{"127.0.0.0/8:80", "tcp", "127.1.2.3", 80, "127.1.2.3"},
		{"127.0.0.0/8:80", "tcp", "sneaky.example.com", 80, ""},
		{"[fd00::]/8:80", "tcp", "fd12::1", 80, "fd12::1"},
		{"[::1]:80", "tcp", "::1", 80, "::1"},
	} {
		t.Run(test.rule+" "+test.host, func(t *testing.T) {
			r, err := ParseAddressRule(test.rule)
			if err != nil {
				t.Fatal(err)
			}
			c := Config{Allow: []AddressRule{r}, Resolve: func(_ context.Context, host string) (as []netip.Addr, err error) {
				for _, a := range names[host] {
					as = append(as, netip.MustParseAddr(a))
				}
				return as, nil
			}}
			got, err := c.granted(context.Background(), c.Allow, test.network, test.host, test.port)
			switch {
			case test.want == "" && !errors.Is(err, ErrPolicy):
				t.Errorf("granted %v, error %v", got, err)
			case test.want != "" && (err != nil || got[0] != test.want):
				t.Errorf("got %v, error %v, want %s", got, err, test.want)
			}
		})
	}
}

// With a proxy, names are for it to look up. What no rule grants is not for it.
func TestAddressPolicyWithNames(t *testing.T) {
	for _, test := range []struct{ rule, host, want string }{
		{"example.com:443", "EXAMPLE.com.", "example.com"},
		{"*.example.com:443", "a.example.com", "a.example.com"},
		{"*:443", "localhost", "localhost"},
		{"*:443", "93.184.216.34", "93.184.216.34"},
		{"*:443", "127.0.0.1", ""},
		{"example.com:443", "example.org", ""},
		{"127.0.0.0/8:443", "example.com", ""},
	} {
		r, err := ParseAddressRule(test.rule)
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Allow: []AddressRule{r}, DialNames: true, Resolve: func(context.Context, string) ([]netip.Addr, error) {
			t.Errorf("%s: it was looked up here", test.host)
			return nil, errors.New("no")
		}}
		got, err := c.granted(context.Background(), c.Allow, "tcp", test.host, 443)
		if test.want == "" && !errors.Is(err, ErrPolicy) || test.want != "" && (err != nil || got[0] != test.want) {
			t.Errorf("%s grants %s: %q, %v; want %q", test.rule, test.host, got, err, test.want)
		}
	}
}

func TestAddressRuleErrors(t *testing.T) {
	for _, s := range []string{"", "example.com", ":80", "example.com:", "example.com:0", "example.com:70000",
		"@", "@a b", "@url:443", "example.com:9-8", "a*b.com:80", "10.0.0.0/33:80", "unix/x:1", "*.:x"} {
		if r, err := ParseAddressRule(s); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: rule %v, error %v", s, r, err)
		}
	}
}

// A rule with an argument grants the one address that a connection's own argument has.
func TestAddressRuleOfArgument(t *testing.T) {
	rule, err := ParseAddressRule("@url")
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"https://example.com/path":         "example.com:443",
		"https://example.com:8443/p?q":     "example.com:8443",
		"http://example.com/":              "example.com:80",
		"https://user@example.com/":        "example.com:443",
		"https://[::1]/":                   "[::1]:443",
		"https://127.0.0.1:9/":             "127.0.0.1:9",
		"example.com:443":                  "example.com:443",
		"[fd00::1]:443":                    "[fd00::1]:443",
		"10.0.0.1:443":                     "10.0.0.1:443",
		"":                                 "",
		"example.com":                      "",
		"ftp://example.com/":               "",
		"https://*:443/":                   "",
		"*:443":                            "",
		"*.example.com:443":                "",
		"10.0.0.0/8:443":                   "",
		"example.com:*":                    "",
		"example.com:1-65535":              "",
		"udp/example.com:443":              "",
		"https://10.0.0.0%2f8/":            "",
		"@url":                             "",
		"https:///path":                    "",
		"https://example.com:99999/":       "",
		"https://example.com:443@evil.com": "evil.com:443",
	} {
		got := ""
		for _, r := range rule.For(Args{"url": {value}, "addr": {"example.net:1"}}) {
			got += r.String()
		}
		if got != want {
			t.Errorf("%q grants %q, want %q", value, got, want)
		}
	}
	if rules := rule.For(nil); rules != nil {
		t.Errorf("without the argument %v is granted", rules)
	}
	other, err := ParseAddressRule("*:*")
	if err != nil {
		t.Fatal(err)
	}
	if other.Covers(rule) || rule.Covers(other) || !rule.Covers(rule) {
		t.Error("a rule with an argument stands for others, or not for itself")
	}
	if _, low, high := rule.Ports(); low != 1 || high != 65535 {
		t.Errorf("the ports are %d to %d", low, high)
	}
}
