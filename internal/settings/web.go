package settings

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Web is the table [web] of a server: how the web server before its module is reached, and
// what it shows. internal/web is that server.
type Web struct {
	// Certificate and Key are PEM files; "" for both if there are none.
	Certificate, Key string
	// ACME gets certificates where there are no files of them; nil: it does not.
	ACME *ACME
	// Site is the directory of the pages that everybody sees, "" for none.
	Site string
	// HTTP1Only is whether HTTP/2 is not offered. Some clients of a transport have a browser's
	// fingerprint, which offers it, and cannot speak it.
	HTTP1Only bool
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Connections is how many connections may be up that are not handed on to the module;
	// 0 is the default.
	Connections int

	file  string
	lines map[string]int
}

// DefaultWebConnections is Web.Connections where that is 0, and descriptors are enough.
const DefaultWebConnections = 1024

// ACME is how certificates are had from a certification authority (RFC 8555).
type ACME struct {
	// Domains are the names that certificates are for, in ASCII and lower case.
	Domains []string
	// Email is the contact that the authority gets, "" for none.
	Email string
	// Directory is the URL of the authority; "" is Let's Encrypt.
	Directory string
	// Roots is the PEM file of the roots that the authority's own certificate is verified
	// by; "" is those of the system.
	Roots string
}

// Port returns the TCP port of the authority.
func (a *ACME) Port() uint16 {
	u, err := url.Parse(a.Directory)
	if err != nil {
		return 443
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil { // it has none
		return 443
	}
	return uint16(n)
}

// Secure reports whether the web server speaks TLS.
func (w *Web) Secure() bool { return w.Certificate != "" || w.ACME != nil }

// Files returns the files that the table names, whether or not they exist.
func (w *Web) Files() (files []string) {
	for _, file := range []string{w.Certificate, w.Key} {
		if file != "" {
			files = append(files, file)
		}
	}
	if w.ACME != nil && w.ACME.Roots != "" {
		files = append(files, w.ACME.Roots)
	}
	return files
}

// At returns an error about a key of the table, such as certificate, as an [*Error].
func (w *Web) At(key string, err error) error {
	c := checker{file: w.file, lines: w.lines}
	c.fail("web."+key, err)
	return c.errs[0]
}

// Wrong returns an error about the table as a whole, as an [*Error].
func (w *Web) Wrong(err error) error { return &Error{w.file, w.lines["web"], "web", err} }

// web has the keys of the table.
type web struct {
	Certificate    string   `toml:"certificate"`
	Key            string   `toml:"key"`
	ACMEDomains    []string `toml:"acme-domains"`
	ACMEEmail      string   `toml:"acme-email"`
	ACMEDirectory  string   `toml:"acme-directory"`
	ACMERoots      string   `toml:"acme-roots"`
	ACMETerms      bool     `toml:"acme-terms-agreed"`
	Site           string   `toml:"site"`
	HTTP2          *bool    `toml:"http2"`
	TrustedProxies []string `toml:"trusted-proxies"`
	Connections    *int     `toml:"connections"`
}

func (c *checker) web(d *web) *Web {
	if d == nil {
		return nil
	}
	w := &Web{
		Certificate: beside(c.file, d.Certificate),
		Key:         beside(c.file, d.Key),
		ACME:        c.acme(d),
		Site:        beside(c.file, d.Site),
		HTTP1Only:   d.HTTP2 != nil && !*d.HTTP2,
		Connections: c.number("web.connections", d.Connections),
		file:        c.file, lines: c.lines,
	}
	switch {
	case d.Certificate != "" && d.Key == "":
		c.fail("web.certificate", errors.New("the file of its private key is missing; name it by key"))
	case d.Key != "" && d.Certificate == "":
		c.fail("web.key", errors.New("the file of its certificates is missing; name it by certificate"))
	case d.Certificate != "" && w.ACME != nil:
		c.fail("web.acme-domains", errors.New("it contradicts certificate; give one of the two"))
	}
	for _, text := range d.TrustedProxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			c.fail("web.trusted-proxies", err)
		}
		w.TrustedProxies = append(w.TrustedProxies, prefix)
	}
	return w
}

// acme returns nil if no domain is named.
func (c *checker) acme(d *web) *ACME {
	if len(d.ACMEDomains) == 0 {
		for key, given := range map[string]bool{
			"acme-email": d.ACMEEmail != "", "acme-directory": d.ACMEDirectory != "", "acme-roots": d.ACMERoots != "", "acme-terms-agreed": d.ACMETerms,
		} {
			if given {
				c.fail("web."+key, errors.New("it has no effect without acme-domains"))
			}
		}
		return nil
	}
	a := &ACME{Email: d.ACMEEmail, Directory: d.ACMEDirectory, Roots: beside(c.file, d.ACMERoots)}
	for _, text := range d.ACMEDomains {
		domain, err := parseDomain(text)
		if err != nil {
			c.fail("web.acme-domains", err)
		}
		a.Domains = append(a.Domains, domain)
	}
	if !d.ACMETerms {
		c.fail("web.acme-domains", errors.New("the authority wants its terms of service agreed to; read them, and set acme-terms-agreed = true"))
	}
	if d.ACMEEmail != "" {
		if _, err := mail.ParseAddress(d.ACMEEmail); err != nil {
			c.fail("web.acme-email", errors.New("it is no e-mail address"))
		}
	}
	if u, err := url.Parse(d.ACMEDirectory); d.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "") {
		c.fail("web.acme-directory", errors.New("it is not of the form https://HOST/PATH"))
	}
	return a
}

// parseDomain returns a domain as it is in certificates.
func parseDomain(text string) (string, error) {
	domain, err := idna.Lookup.ToASCII(text)
	_, notIP := netip.ParseAddr(text)
	if err != nil || notIP == nil || !strings.Contains(strings.Trim(domain, "."), ".") || strings.HasSuffix(domain, ".") {
		return "", fmt.Errorf("%q is no domain such as www.example.com (there are no certificates for addresses, nor with *)", text)
	}
	return domain, nil
}

// parsePrefix takes an address for the prefix that has it alone.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
	}
	return prefix.Masked(), nil
}
