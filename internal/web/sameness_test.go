package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"waterproxy/internal/pttest"
)

// dates are what differs between two answers of one server.
var dates = regexp.MustCompile(`\r\nDate: [^\r]*`)

// seen is what a prober gets to see of one connection.
type seen struct {
	handshake string // the version and protocol of TLS, or how it failed
	bytes     string // that came
	end       string // of the connection
}

// look connects, shakes hands if there is a config, sends bytes, ends its direction and
// reads to the end.
func look(t *testing.T, address string, config *tls.Config, text string) (s seen) {
	t.Helper()
	tcp := pttest.Dial(t, address)
	defer tcp.Close()
	conn := halfCloser(tcp)
	if config != nil {
		secure := tls.Client(tcp, config)
		conn = secure
		if err := secure.Handshake(); err != nil {
			s.handshake = err.Error()
			if alert, ok := errors.AsType[*net.OpError](err); ok {
				s.handshake = alert.Err.Error()
			}
			return s
		}
		state := secure.ConnectionState()
		s.handshake = fmt.Sprintf("%s, %q, %d certificates", tls.VersionName(state.Version), state.NegotiatedProtocol, len(state.PeerCertificates))
	}
	// A server may close before it has read everything: then the end is a reset.
	_, _ = io.WriteString(conn, text)
	_ = conn.CloseWrite()
	got, err := io.ReadAll(conn)
	s.bytes, s.end = dates.ReplaceAllString(string(got), "\r\nDate: x"), fmt.Sprint(reason(err))
	return s
}

// reason returns an error without addresses.
func reason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// probes are what a prober sends, without TLS around it.
var probes = map[string]string{
	"a page":                           "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a style sheet":                    "GET /style.css HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"HEAD":                             "HEAD /soup/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a redirect":                       "GET /soup HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a range":                          "GET / HTTP/1.1\r\nHost: www.example.com\r\nRange: bytes=2-5\r\n\r\n",
	"not modified":                     "GET / HTTP/1.1\r\nHost: www.example.com\r\nIf-Modified-Since: Mon, 30 Nov 2026 00:00:00 GMT\r\n\r\n",
	"wrong path":                       "GET /other HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"wrong path, upgrade":              "GET /other HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"an upgrade of a page":             "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"path below the secret":            "GET " + secretPath + "/x HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"path above the secret":            "GET /a HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"the secret in another case":       "GET " + strings.ToUpper(secretPath) + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"GET of the secret":                "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"HEAD of the secret":               "HEAD " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"POST of the secret":               "POST " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 3\r\n\r\nabc",
	"POST, upgrade of the secret":      "POST " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
	"a body with the upgrade":          "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
	"a chunked body with the upgrade":  "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"Connection without Upgrade":       "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\n\r\n",
	"Upgrade without Connection":       "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nUpgrade: websocket\r\n\r\n",
	"Upgrade to something else":        "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
	"HTTP/1.0, upgrade of the secret":  "GET " + secretPath + " HTTP/1.0\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"HTTP/1.0":                         "GET / HTTP/1.0\r\n\r\n",
	"HTTP/0.9":                         "GET /\r\n",
	"no Host":                          "GET " + secretPath + " HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"two Hosts":                        "GET " + secretPath + " HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"a bad Host":                       "GET " + secretPath + " HTTP/1.1\r\nHost: a b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"another Host":                     "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
	"absolute form":                    "GET https://www.example.com/soup/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"absolute form of the secret":      "GET https://www.example.com" + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"absolute form of another":         "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n",
	"CONNECT":                          "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n",
	"CONNECT of the secret":            "CONNECT " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"TRACE":                            "TRACE " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"OPTIONS":                          "OPTIONS * HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"OPTIONS of the secret":            "OPTIONS " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"an unknown method":                "BREW " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"Expect":                           "POST " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
	"an unknown Expect":                "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nExpect: tea\r\n\r\n",
	"pipelined":                        "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\nGET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\n\r\nGET /other HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"Connection: close":                "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n",
	"a huge head":                      "GET " + secretPath + " HTTP/1.1\r\nHost: www.example.com\r\nCookie: " + strings.Repeat("x", http.DefaultMaxHeaderBytes+5000) + "\r\n\r\n",
	"a long path":                      "GET /" + strings.Repeat("x", 5000) + " HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a path that leaves the site":      "GET /../../../../etc/passwd HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a path that leaves it, escaped":   "GET /%2e%2e%2f%2e%2e%2fetc/passwd HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a path with NUL":                  "GET /%00 HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a path that is not UTF-8":         "GET /%ff HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a file as a directory":            "GET /style.css/x HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a bad escape":                     "GET /%zz HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	"a bad header":                     "GET / HTTP/1.1\r\nHost: www.example.com\r\nno colon\r\n\r\n",
	"a header with NUL":                "GET / HTTP/1.1\r\nHost: www.example.com\r\nX: a\x00b\r\n\r\n",
	"a body that is chunked and sized": "POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/2 without ALPN":              "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	"HTTP/3":                           "GET / HTTP/3.0\r\nHost: www.example.com\r\n\r\n",
	"half a head":                      "GET " + secretPath + " HTTP/1.1\r\nHost: www.exam",
	"half a request line":              "GE",
	"nothing":                          "",
	"SSH":                              "SSH-2.0-OpenSSH_9.6\r\n",
	"bytes without a meaning":          strings.Repeat("\x00\xff\x13\x7e", 2500),
	"one byte":                         "\x80",
}

// tlsProbes are handshakes.
var tlsProbes = map[string]*tls.Config{
	"no server name":       {},
	"the server name":      {ServerName: host},
	"another server name":  {ServerName: "other.example"},
	"TLS 1.2":              {ServerName: host, MaxVersion: tls.VersionTLS12},
	"TLS 1.1":              {ServerName: host, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
	"TLS 1.0":              {ServerName: host, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
	"ALPN http/1.1":        {ServerName: host, NextProtos: []string{"http/1.1"}},
	"ALPN h2":              {ServerName: host, NextProtos: []string{"h2"}},
	"ALPN h2 and http/1.1": {ServerName: host, NextProtos: []string{"h2", "http/1.1"}},
	"ALPN http/1.0":        {ServerName: host, NextProtos: []string{"http/1.0"}},
	"ALPN acme-tls/1":      {ServerName: host, NextProtos: []string{"acme-tls/1"}},
	"RSA alone":            {ServerName: host, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
}

// lookTwice returns what a prober sees at two addresses. Whether an end is a reset depends on
// what is under way, so it looks again if there is a difference: a real one is there each time.
func lookTwice(t *testing.T, front, other string, config *tls.Config, text string) (got, want seen) {
	t.Helper()
	for range 10 {
		got, want = look(t, front, config, text), look(t, other, config, text)
		if strings.Contains(got.handshake, `"h2"`) { // net/http races with the end that it sees
			got.bytes, want.bytes = "", ""
		}
		if len(text) > 100_000 {
			got.end, want.end = "", ""
		}
		if got == want {
			break
		}
	}
	return got, want
}

// Whatever a prober does that does not know the secret, or does the wrong thing with it, a
// web server without a transport would answer with the same bytes.
func TestSameness(t *testing.T) {
	secure := secureWeb(t)
	plain := *secure
	plain.Certificate, plain.Key = "", ""
	sameTLS := func(name string, f *Front, address, text string, config *tls.Config) {
		if config != nil {
			config = config.Clone()
			config.InsecureSkipVerify = true
		}
		got, want := lookTwice(t, f.Addr().String(), address, config, text)
		if got != want {
			t.Errorf("%s: a prober sees\n%.500q\nand of a web server\n%.500q", name, got, want)
		}
	}
	front, other := start(t, Config{Web: secure}, usualTimes), reference(t, secure).Addr().String()
	plainFront, plainOther := start(t, Config{Web: &plain}, usualTimes), reference(t, &plain).Addr().String()
	for name, text := range probes {
		sameTLS(name+", TLS", front, other, text, &tls.Config{})
		sameTLS(name+", TLS 1.2", front, other, text, &tls.Config{MaxVersion: tls.VersionTLS12, ServerName: host})
		sameTLS(name+", at the port of TLS", front, other, text, nil)
		sameTLS(name+", plain", plainFront, plainOther, text, nil)
	}
	sameTLS("the upgrade, at the port of TLS", front, other, upgrade, nil)
	for name, config := range tlsProbes {
		sameTLS(name, front, other, probes["GET of the secret"], config)
	}
}

// HTTP/2 knows no upgrade: whatever asks for the secret gets what a web server has.
func TestSamenessHTTP2(t *testing.T) {
	w := secureWeb(t)
	front, other := start(t, Config{Web: w}, usualTimes).Addr().String(), reference(t, w).Addr().String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE"} {
		for _, at := range []string{"/", "/soup", "/other", secretPath} {
			see := func(address string) string {
				req, err := http.NewRequest(method, "https://"+address+at, strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Sec-WebSocket-Version", "13")
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				resp.Header.Del("Date")
				return fmt.Sprintf("%s %s %v %q %v", resp.Proto, resp.Status, resp.Header, body, err)
			}
			if got, want := see(front), see(other); got != want || !strings.HasPrefix(got, "HTTP/2.0 ") {
				t.Errorf("%s %s: a prober sees\n%s\nand of a web server\n%s", method, at, got, want)
			}
		}
	}
}

// Without HTTP/2 the server is one that has it switched off.
func TestSamenessHTTP1(t *testing.T) {
	w := secureWeb(t)
	w.HTTP1Only = true
	front, other := start(t, Config{Web: w}, usualTimes).Addr().String(), reference(t, w).Addr().String()
	for name, config := range tlsProbes {
		config = config.Clone()
		config.InsecureSkipVerify = true
		got, want := lookTwice(t, front, other, config, probes["a page"])
		if got != want || strings.Contains(got.handshake, `"h2"`) {
			t.Errorf("%s: a prober sees\n%.500q\nand of a web server\n%.500q", name, got, want)
		}
	}
}

// A replay of a request that was handed on is handed on like the first.
func TestReplay(t *testing.T) {
	f := start(t, Config{Web: secureWeb(t)}, usualTimes)
	var heads []string
	for range 3 {
		client, module := upgraded(t, f, "")
		buf := make([]byte, 4096)
		n, err := module.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, string(buf[:n]))
		send(t, module, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		expect(t, client, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
	}
	if heads[0] != heads[1] || heads[0] != heads[2] {
		t.Errorf("the module gets %q", heads)
	}
}
