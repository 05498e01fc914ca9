package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/watm"
)

// plainArgs are those of a bridge without TLS.
func plainArgs() watm.Args { return watm.Args{"url": {"http://" + host + "/secret"}} }

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

// TestAnswers: 101 with both fields is an upgrade, in whatever case and among whatever else,
// and everything else is an error in the operator's words; the server gets the request then,
// and no byte more.
func TestAnswers(t *testing.T) {
	const (
		noHTTP   = "does not speak HTTP/1.1"
		noSwitch = "another protocol than the bridge's"
		closed   = "closed the connection instead of answering"
	)
	endless := strings.Repeat("x", 1<<20)
	for _, row := range []struct{ answer, want string }{
		{switching, ""},
		{"HTTP/1.1 101 whatever\nconnection: keep-alive, UPGRADE\nUpgrade:\tWebSocket\nServer: x\n\n", ""},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n", noSwitch},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n", noSwitch},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", noSwitch},
		{"HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", noHTTP},
		{"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "the server answered 200 OK with a page of its own: the path of the url is not the bridge's"},
		{"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + endless, "200 OK"},
		{"HTTP/1.1 404 Not Found\r\n\r\n", "the server answered 404 Not Found: the path of the url is not the bridge's"},
		{"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\n\r\n", "302 Found, a redirect"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "400 Bad Request instead of switching protocols"},
		{"HTTP/1.1 426 Upgrade Required\r\n\r\n", "426 Upgrade Required instead"},
		{"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway: the bridge behind the web server is down"},
		{"HTTP/1.1 799\r\n\r\n", "answered 799 instead"},
		{"HTTP/1.1 1010 X\r\n\r\n", noHTTP},
		{"HTTP/1.1 " + endless, "the head of the message is longer than"},
		{"HTTP/1.1 101 X\r\n" + strings.Repeat("A: b\r\n", 1<<12), "the head of the message is longer than"},
		{"HTTP/1.1 101 X\r\nno field\r\n\r\n", "the head of the message is malformed"},
		{"<html>" + endless, noHTTP},
		{"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", noHTTP},
		{"\x15\x03\x01\x00\x02\x02\x46", noHTTP},
		{"HT", closed},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n", closed},
		{"", closed},
	} {
		got := make(chan []byte, 1)
		dial := listen(t, func(conn net.Conn) {
			head, rest, err := readHead(conn, func([]byte) error { return nil })
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, row.answer) // it may be too much for the client
			_ = conn.(*net.TCPConn).CloseWrite()    // the same
			more, _ := io.ReadAll(conn)             // it may be reset
			got <- slices.Concat(head, rest, more)
		})
		conn, err := connect(t, newWebtunnel(), plainArgs(), dial)
		name := row.answer[:min(60, len(row.answer))]
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%q: %v", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "elsewhere")):
			t.Errorf("%q: %v, want %q", name, err, row.want)
		}
		if err == nil {
			conn.Close()
		}
		if b := <-got; headEnd(b) != len(b) {
			t.Errorf("%q: the server got %q", name, b)
		}
	}
}

// TestTrickle: a server that answers for ever, byte by byte or not at all, or in a hidden
// head without an end, ends by the limit of a set-up.
func TestTrickle(t *testing.T) {
	for name, answer := range map[string]func(conn net.Conn) error{
		"silence": func(net.Conn) error { return nil },
		"bytes": func(conn net.Conn) error {
			_, err := io.WriteString(conn, "HTTP/1.1 101 X\r\nA: ")
			for err == nil {
				_, err = io.WriteString(conn, "a")
				time.Sleep(time.Millisecond)
			}
			return nil // the client has gone
		},
	} {
		for _, encrypted := range []bool{false, true} {
			args, done := plainArgs(), t.Context().Done()
			if encrypted {
				args = bridgeArgs(certificate(t, ecdsaKey(), nil))
			}
			dial := listen(t, func(conn net.Conn) {
				if err := answer(conn); err != nil {
					t.Error(err)
				}
				<-done
			})
			client := &webtunnel{limit: 50 * time.Millisecond}
			_, err := connect(t, client, args, dial)
			if want := []error{errSlow, errNoTLS}; err == nil || !errors.Is(err, errSlow) && !(encrypted && name == "bytes" && errors.Is(err, want[1])) {
				t.Errorf("%s, encrypted: %v: %v", name, encrypted, err)
			}
		}
	}
}

// TestRequests: a server takes what clients and fronts send, and answers nothing else.
func TestRequests(t *testing.T) {
	browser := (&bridge{host: host, path: "/secret", tls: true, fingerprint: findFingerprint("")}).request()
	other := (&bridge{host: host, path: "/secret", tls: true, fingerprint: findFingerprint(none)}).request()
	for _, row := range []struct {
		request string
		good    bool
	}{
		{browser, true},
		{other, true},
		{"GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", true},
		{"POST /x HTTP/1.1\nconnection: upgrade\nupgrade: websocket\n\n", true},
		{"GET / HTTP/1.1\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nConnection\r\n\r\n", false},
		{"\r\n\r\n", false},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", false},
		{"SSH-2.0-x\r\n\r\n", false},
		{strings.Repeat("x", maxHead+1), false},
	} {
		wires := wirePair(t)
		done := make(chan error, 1)
		go func() {
			conn, err := newWebtunnel().Server(t.Context(), wires[1])
			if err == nil {
				_, err = io.WriteString(conn, "hello")
			}
			wires[1].Close()
			done <- err
		}()
		const early = "early bytes"
		text := row.request
		if row.good {
			text += early
		}
		if _, err := io.WriteString(wires[0], text); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(wires[0]) // it may be reset
		err := <-done
		name := row.request[:min(60, len(row.request))]
		if !row.good {
			if err == nil || len(got) > 0 {
				t.Errorf("%q: the server sent %q, %v", name, got, err)
			}
			continue
		}
		r := bufio.NewReader(bytes.NewReader(got))
		answer, perr := http.ReadResponse(r, nil)
		if err != nil || perr != nil {
			t.Errorf("%q: %v, %v", name, err, perr)
			continue
		}
		rest, _ := io.ReadAll(r)
		if answer.Status != "101 Switching Protocols" || answer.Header.Get("Connection") != "upgrade" || answer.Header.Get("Upgrade") != "websocket" || string(rest) != "hello" {
			t.Errorf("%q: %q", name, got)
		}
		if (answer.Header.Get("Sec-WebSocket-Accept") != "") != (row.request == browser) {
			t.Errorf("%q: the browser's key: %q", name, got)
		}
	}
	// The example of RFC 6455, section 1.3.
	if got := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(got)
	}
}

// TestEarly: bytes behind a request or an answer are not lost, whatever they come with.
func TestEarly(t *testing.T) {
	const early = "early bytes"
	for _, encrypted := range []bool{false, true} {
		cert := certificate(t, ecdsaKey(), nil)
		done := t.Context().Done()
		dial := listen(t, func(conn net.Conn) {
			if encrypted {
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			}
			if _, _, err := readHead(conn, func([]byte) error { return nil }); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(conn, switching+early); err != nil {
				t.Error(err)
			}
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			<-done
		})
		args := plainArgs()
		if encrypted {
			args = bridgeArgs(cert)
		}
		conn, err := connect(t, newWebtunnel(), args, dial)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != early || err != nil {
			t.Errorf("encrypted: %v: the client got %q, %v", encrypted, got, err)
		}
	}
	wires := wirePair(t)
	if _, err := io.WriteString(wires[0], "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"+early); err != nil {
		t.Fatal(err)
	}
	if err := wires[0].CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conn, err := newWebtunnel().Server(t.Context(), wires[1])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != early || err != nil {
		t.Errorf("the server got %q, %v", got, err)
	}
}

// TestSilentClient: a client that sends no request does not hold a connection for ever.
func TestSilentClient(t *testing.T) {
	wires := wirePair(t)
	server := &webtunnel{limit: 50 * time.Millisecond}
	if _, err := server.Server(t.Context(), wires[1]); err == nil {
		t.Error("it is taken")
	}
}

// TestCertificates: which certificates are taken, and the operator's words for the others.
func TestCertificates(t *testing.T) {
	own := func(change func(*x509.Certificate)) tls.Certificate { return certificate(t, ecdsaKey(), change) }
	good := own(nil)
	expired := own(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	wrong := own(func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })
	chain := own(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) })
	chain.Certificate = append(chain.Certificate, good.Certificate[0])
	for _, row := range []struct {
		name    string
		cert    tls.Certificate
		version uint16
		changes []string
		want    error
	}{
		{"pinned", good, 0, nil, nil},
		{"pinned, TLS 1.2", good, tls.VersionTLS12, nil, nil},
		{"two, pinned", chain, 0, []string{"cert", pinOf(chain)}, nil},
		{"pinned and expired, for another name", expired, 0, []string{"cert", pinOf(expired), "cert-domain", "x.example"}, nil},
		{"another", wrong, 0, []string{"cert", pinOf(good)}, errPin},
		{"the first of two", chain, 0, []string{"cert", pinOf(good)}, errPin},
		{"nobody vouches", good, 0, []string{"cert", "-"}, errUnknown},
		{"expired", expired, 0, []string{"cert", "-"}, errExpired},
		{"another name", wrong, 0, []string{"cert", "-"}, errName},
		{"too old", good, tls.VersionTLS11, nil, nil},
	} {
		dial := listen(t, func(conn net.Conn) {
			config := &tls.Config{Certificates: []tls.Certificate{row.cert}, MinVersion: tls.VersionTLS10, MaxVersion: row.version}
			far := tls.Server(conn, config)
			if _, err := answer(far); err == nil {
				_, _ = io.Copy(far, far) // until the client closes
			} else if row.want == nil && row.version != tls.VersionTLS11 {
				t.Errorf("%s: %v", row.name, err)
			}
		})
		conn, err := connect(t, newWebtunnel(), edit(bridgeArgs(row.cert), row.changes...), dial)
		switch {
		case row.version == tls.VersionTLS11:
			if err == nil || !strings.HasPrefix(err.Error(), "TLS handshake: ") {
				t.Errorf("%s: %v", row.name, err)
			}
		case !errors.Is(err, row.want):
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
		if err == nil {
			if _, err := io.WriteString(conn, "x"); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
	}
}

// TestNames: which name the server is asked for, which one goes into the Host header, and for
// which one the certificate must be, in every combination of arguments.
func TestNames(t *testing.T) {
	for _, row := range []struct {
		changes []string
		sni     string
		verify  string
	}{
		{nil, host, host},
		{[]string{"servername", "a.example"}, "a.example", "a.example"},
		{[]string{"sni-imitation", "a.example"}, "a.example", host},
		{[]string{"sni-imitation", "a.example", "servername", "b.example"}, "b.example", host},
		{[]string{"servername", "a.example", "cert-domain", "c.example"}, "a.example", "c.example"},
		{[]string{"sni-imitation", "a.example", "cert-domain", "c.example"}, "a.example", "c.example"},
		{[]string{"url", "https://192.0.2.1/secret"}, "", "192.0.2.1"},
	} {
		args := edit(bridgeArgs(certificate(t, ecdsaKey(), nil)), row.changes...)
		asked, hosts := make(chan string, 1), make(chan string, 1)
		config := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked <- h.ServerName
			cert := certificate(t, ecdsaKey(), nil)
			return &cert, nil
		}}
		dial := listen(t, func(conn net.Conn) {
			far := tls.Server(conn, config)
			head, _, err := readHead(far, func([]byte) error { return nil })
			if err != nil {
				return // the pin is another certificate's
			}
			_, fields, _ := parseHead(head)
			hosts <- fields.Get("Host")
			_, _ = io.WriteString(far, switching)
		})
		b, err := parseBridge(args)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := dial(t.Context(), "", "", false)
		if err != nil {
			t.Fatal(err)
		}
		name := newWebtunnel().names.current(b)
		_, err = newWebtunnel().setUp(t.Context(), wire, b, name)
		wire.Close()
		if err != nil && !errors.Is(err, errPin) {
			t.Error(err)
		}
		if got := <-asked; got != row.sni {
			t.Errorf("%q: the server is asked for %q, want %q", row.changes, got, row.sni)
		}
		// The certificate's name counts when there is no pin.
		b.pin = nil
		for _, domain := range []string{row.verify, "z.example"} {
			raw, roots := signed(t, domain)
			err := b.verifyBy(roots, [][]byte{raw}, name)
			if want := map[bool]error{true: nil, false: errName}[domain == row.verify]; err != want {
				t.Errorf("%q: a certificate for %s: %v, want %v", row.changes, domain, err, want)
			}
		}
		select {
		case got := <-hosts:
			if got != b.host {
				t.Errorf("%q: the request is for %q", row.changes, got)
			}
		default:
		}
	}
}

// signed makes a certificate for a name, and the authority that vouches for it.
func signed(t *testing.T, name string) (raw []byte, roots *x509.CertPool) {
	t.Helper()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, ecdsaKey().Public(), ecdsaKey())
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(must(x509.ParseCertificate(der)))
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{name}
	}
	raw, err = x509.CreateCertificate(rand.Reader, leaf, ca, ecdsaKey().Public(), ecdsaKey())
	if err != nil {
		t.Fatal(err)
	}
	return raw, roots
}

// TestAuthorities: the list that is built in is read, and is not empty.
func TestAuthorities(t *testing.T) {
	if n := len(authorities().Subjects()); n < 100 { //nolint:staticcheck // it is not the system's
		t.Errorf("%d authorities", n)
	}
}

// TestServerNameList: when TLS or the upgrade fails with one name, the next one is tried in
// the same dial, by a connection of its own; the good one is remembered.
func TestServerNameList(t *testing.T) {
	cert := certificate(t, ecdsaKey(), nil)
	asked := make(chan string, 10)
	config := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- h.ServerName
		if h.ServerName == "blocked.example" {
			return nil, errors.New("blocked")
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
	}}
	dial := listen(t, func(conn net.Conn) {
		far := tls.Server(conn, config)
		if far.Handshake() != nil {
			return
		}
		if far.ConnectionState().ServerName == "other.example" {
			_, _ = io.WriteString(far, "HTTP/1.1 404 Not Found\r\n\r\n")
			return
		}
		if _, err := answer(far); err != nil {
			t.Error(err)
		}
	})
	client := newWebtunnel()
	names := []string{"blocked.example", "good.example", "other.example"}
	args := bridgeArgs(cert, "servername", strings.Join(names, ","))
	for range 2 {
		conn, err := connect(t, client, args, dial)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	close(asked)
	var all []string
	for name := range asked {
		all = append(all, name)
	}
	n := len(all)
	if n < 2 || n > 4 || all[n-1] != "good.example" || all[n-2] != "good.example" || slices.Contains(all[:n-2], "good.example") {
		t.Errorf("the names are %q", all)
	}
	// All of them fail: an error, after each has been tried once.
	asked = make(chan string, 10)
	if _, err := connect(t, newWebtunnel(), edit(args, "servername", "blocked.example,other.example"), dial); err == nil || len(asked) != 2 {
		t.Errorf("%v, after %d", err, len(asked))
	}
}

// FuzzHead: the end of a head is found whatever it is cut into, and nothing is lost.
func FuzzHead(f *testing.F) {
	f.Add([]byte(switching+"more"), 3)
	f.Add([]byte("GET / HTTP/1.1\n\n\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, step int) {
		r := &pieces{text, max(1, step%100)}
		head, rest, err := readHead(r, func([]byte) error { return nil })
		if err != nil {
			if end := headEnd(text); end > 0 && end <= maxHead && err == io.EOF {
				t.Errorf("%q has a head of %d bytes", text, end)
			}
			return
		}
		if len(head) != headEnd(text) || !bytes.HasPrefix(text, slices.Concat(head, rest)) {
			t.Errorf("%q: a head of %d bytes, and %q", text, len(head), rest)
		}
		if _, fields, err := parseHead(head); err == nil {
			isUpgrade(fields)
		}
	})
}

// pieces gives its bytes away a few at a time.
type pieces struct {
	rest []byte
	step int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(len(p.rest), p.step)])
	p.rest = p.rest[n:]
	return n, nil
}
