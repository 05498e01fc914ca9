package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	target   = "bridge.example:443"
	greeting = "the bridge speaks first"
)

// serve runs a proxy for one connection and returns its address. What it says after
// its answer is the tunnel's.
func serve(t *testing.T, proxy func(net.Conn) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = proxy(c)
			c.Close()
		}
		done <- err
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the proxy: %v", err)
		}
	})
	return l.Addr().String()
}

// script is a proxy that expects and says bytes in turns.
func script(turns ...string) func(net.Conn) error {
	return func(c net.Conn) error {
		for i, turn := range turns {
			if i%2 == 1 {
				if _, err := io.WriteString(c, turn); err != nil {
					return err
				}
				continue
			}
			got := make([]byte, len(turn))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != turn {
				return fmt.Errorf("got %q, %w; want %q", got, err, turn)
			}
		}
		return nil
	}
}

func dialThrough(ctx context.Context, t *testing.T, url string) (net.Conn, error) {
	t.Helper()
	p, err := ParseProxy(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&Dialer{Proxy: p}).DialContext(ctx, "tcp", target)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

const (
	socks5Request = "\x05\x01\x00\x03\x0ebridge.example\x01\xbb"
	socks5Granted = "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"
	connectLine   = "CONNECT bridge.example:443 HTTP/1.1\r\nHost: bridge.example:443\r\n"
)

// The name goes to the proxy as it is, and what comes right behind the proxy's answer
// is not lost.
func TestThroughProxy(t *testing.T) {
	for name, test := range map[string]struct {
		url   string // with %s for the address
		turns []string
	}{
		"socks5":             {"socks5://%s", []string{"\x05\x01\x00", "\x05\x00", socks5Request, socks5Granted + greeting}},
		"socks5, password":   {"socks5://us%%er:p:w@@%s", []string{"\x05\x02\x00\x02", "\x05\x02", "\x01\x05us%er\x04p:w@", "\x01\x00", socks5Request, socks5Granted + greeting}},
		"socks5, none asked": {"socks5://u:p@%s", []string{"\x05\x02\x00\x02", "\x05\x00", socks5Request, socks5Granted + greeting}},
		"socks4a":            {"socks4a://me@%s", []string{"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00bridge.example\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00" + greeting}},
		"http":               {"http://%s", []string{connectLine + "\r\n", "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n" + greeting}},
		"http, password":     {"http://u:p@%s", []string{connectLine + "Proxy-Authorization: Basic dTpw\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + greeting}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialThrough(t.Context(), t, fmt.Sprintf(test.url, serve(t, script(test.turns...))))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := conn.(*net.TCPConn); !ok {
				t.Errorf("the connection is a %T", conn)
			}
			if got, err := io.ReadAll(conn); string(got) != greeting || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestSOCKS4Addresses(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:443":     "\x04\x01\x01\xbb\xc0\x00\x02\x01\x00",
		"[2001:db8::1]:443": "\x04\x01\x01\xbb\x00\x00\x00\x01\x002001:db8::1\x00",
	} {
		p, err := ParseProxy("socks4a://" + serve(t, script(want, "\x00\x5a123456")))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&Dialer{Proxy: p}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		conn.Close()
	}
}

// A proxy's refusal says what it is, and is not taken for an answer of the bridge.
func TestProxyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		url   string
		turns []string
		want  string
	}{
		"socks5, refused":    {"socks5://%s", []string{"\x05\x01\x00", "\x05\x00", socks5Request, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"}, "connection refused"},
		"socks5, password":   {"socks5://u:p@%s", []string{"\x05\x02\x00\x02", "\x05\x02", "\x01\x01u\x01p", "\x01\x01"}, "authentication failed"},
		"socks5, none given": {"socks5://%s", []string{"\x05\x01\x00", "\x05\xff"}, "authentication"},
		"socks4a, refused":   {"socks4a://%s", []string{"\x04", "\x00\x5b123456"}, "refused"},
		"socks4a, unknown":   {"socks4a://%s", []string{"\x04", "\x00\x99123456"}, "153"},
		"socks4a, nonsense":  {"socks4a://%s", []string{"\x04", "HTTP/1.1"}, "not SOCKS4"},
		"socks4a, short":     {"socks4a://%s", []string{"\x04", "\x00\x5a"}, "EOF"},
		"http, password":     {"http://%s", []string{connectLine, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"}, "407 Proxy Authentication Required"},
		"http, redirect":     {"http://%s", []string{connectLine, "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"}, "302"},
		"http, nonsense":     {"http://%s", []string{connectLine, "SSH-2.0-x\r\n"}, "malformed HTTP"},
		"http, long":         {"http://%s", []string{connectLine, "HTTP/1.1 400 " + strings.Repeat("x", maxHeader/2) + "\r\n\r\n"}, "400 xxx"},
		"http, long word":    {"http://%s", []string{connectLine, strings.Repeat("x", maxHeader/2) + "\r\n\r\n"}, "malformed HTTP"},
		"http, endless":      {"http://%s", []string{connectLine, "HTTP/1.1 200 " + strings.Repeat("x", maxHeader)}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, func(c net.Conn) error {
				err := script(test.turns...)(c)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c) // or a reset would overtake the answer
				return err
			})
			_, err := dialThrough(t.Context(), t, fmt.Sprintf(test.url, address))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "upstream ") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v is taken for the bridge's refusal", err)
			}
			if err != nil && len(err.Error()) > 2*maxReason {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// If the proxy is not there, nothing goes past it.
func TestFailsClosed(t *testing.T) {
	bridge, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer bridge.Close()
	accepted := make(chan struct{}, 100)
	go func() {
		for {
			c, err := bridge.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			accepted <- struct{}{}
		}
	}()
	refuses, err := net.Dial("tcp", bridge.Addr().String()) // its own address, that is
	if err != nil {
		t.Fatal(err)
	}
	defer refuses.Close()
	<-accepted
	for kind := range handshakes {
		p, err := ParseProxy(kind + "://" + refuses.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		d := &Dialer{Proxy: p}
		for _, network := range []string{"tcp", "tcp4", "udp"} {
			if conn, err := d.DialContext(t.Context(), network, bridge.Addr().String()); err == nil {
				conn.Close()
				t.Errorf("%s, %s: it connected", kind, network)
			} else if errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v is taken for the bridge's refusal", kind, err)
			}
		}
	}
	select {
	case <-accepted:
		t.Error("the bridge got a connection")
	default:
	}
}

// A proxy that does not answer costs no more time than the caller has.
func TestSilentProxy(t *testing.T) {
	for kind := range handshakes {
		t.Run(kind, func(t *testing.T) {
			address := serve(t, func(c net.Conn) error {
				_, err := io.Copy(io.Discard, c)
				return err
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := dialThrough(ctx, t, kind+"://"+address)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the deadline's", err)
			}
		})
	}
}

// A context bounds dialing only.
func TestContextAfterDial(t *testing.T) {
	address := serve(t, func(c net.Conn) error {
		if err := script("\x05\x01\x00", "\x05\x00", socks5Request, socks5Granted)(c); err != nil {
			return err
		}
		return script("ping", greeting)(c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	conn, err := dialThrough(ctx, t, "socks5://"+address)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(conn); string(got) != greeting || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// The certificate of an https proxy must be good for its address.
func TestHTTPSProxy(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if r.Method != http.MethodConnect || r.RequestURI != target {
			t.Errorf("asked for %s %s", r.Method, r.RequestURI)
		}
		tunnel(rw, "HTTP/1.1 200 OK\r\n\r\n"+greeting)
	}))
	defer s.Close()
	p, err := ParseProxy(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := (&Dialer{Proxy: p}).DialContext(t.Context(), "tcp", target); err == nil {
		conn.Close()
		t.Error("a certificate that nobody has signed was accepted")
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	p.trust = &tls.Config{RootCAs: pool}
	conn, err := (&Dialer{Proxy: p}).DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != greeting || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func tunnel(w *bufio.ReadWriter, text string) {
	w.WriteString(text)
	w.Flush()
}

func TestSourceAddresses(t *testing.T) {
	d := &Dialer{Source4: netip.MustParseAddr("192.0.2.7"), Source6: netip.MustParseAddr("2001:db8::7")}
	for to, want := range map[string]string{
		"198.51.100.1":        "192.0.2.7:0",
		"::ffff:198.51.100.1": "192.0.2.7:0",
		"2001:db8::1":         "[2001:db8::7]:0",
		"127.0.0.1":           "",
		"127.8.8.8":           "",
		"::1":                 "",
	} {
		for _, network := range []string{"tcp", "udp"} {
			got := ""
			if a := d.LocalAddr(network, netip.MustParseAddr(to)); a != nil {
				got = a.String()
				if a.Network() != network {
					t.Errorf("to %s over %s: an address for %s", to, network, a.Network())
				}
			}
			if got != want {
				t.Errorf("to %s: %q, want %q", to, got, want)
			}
		}
	}
	if a := (&Dialer{Source4: d.Source4}).LocalAddr("tcp", netip.MustParseAddr("2001:db8::1")); a != nil {
		t.Errorf("%v for IPv6, though only IPv4 is set", a)
	}
	for _, text := range []string{"x", "::1", "[::1]", "1.2.3", "192.0.2.1:80"} {
		if ip, err := ParseSource4(text); err == nil {
			t.Errorf("%q is taken for %v", text, ip)
		}
	}
	for _, text := range []string{"x", "::1", "[::1", "[192.0.2.1]", "[::1]:80"} {
		if ip, err := ParseSource6(text); err == nil {
			t.Errorf("%q is taken for %v", text, ip)
		}
	}
	if ip, err := ParseSource6("[2001:db8::7]"); err != nil || ip != d.Source6 {
		t.Errorf("%v, %v", ip, err)
	}
}

// Connections to this machine itself are made whatever the source address is.
func TestSourceAddressAndLoopback(t *testing.T) {
	d := &Dialer{Source4: netip.MustParseAddr("192.0.2.7"), Source6: netip.MustParseAddr("2001:db8::7")}
	address := serve(t, script("ping", greeting))
	_, port, _ := net.SplitHostPort(address)
	conn, err := d.DialContext(t.Context(), "tcp4", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "ping")
	if got, err := io.ReadAll(conn); string(got) != greeting || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// FuzzProxy: a proxy is taken or refused, and no error has the password.
func FuzzProxy(f *testing.F) {
	f.Add("http", "user", "password", "127.0.0.1:1")
	f.Add("socks5", "", "%zz", "[::1]:70000")
	f.Fuzz(func(t *testing.T, scheme, user, password, address string) {
		_, err := ParseProxy(scheme + "://" + user + ":" + password + "@" + address)
		whole := scheme + user + address
		if err != nil && len(password) > 6 && !strings.Contains(whole, password) && strings.Contains(err.Error(), password) {
			t.Errorf("the error has the password: %v", err)
		}
	})
}
