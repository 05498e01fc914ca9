package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// pebble is the ACME server of Let's Encrypt for tests.
type pebble struct {
	directory string // its URL
	roots     string // what its own certificate is verified by
	manage    string // the address of its management
	client    *http.Client
}

// startPebble starts one that validates at a port.
func startPebble(t *testing.T, validates string) *pebble {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := pttest.WriteCertificate(t, dir, "localhost")
	_, port, err := net.SplitHostPort(validates)
	if err != nil {
		t.Fatal(err)
	}
	listen, manage := pttest.FreeAddress(t), pttest.FreeAddress(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": certFile, "privateKey": keyFile,
		"httpPort": 1, "tlsPort": json.Number(port), "domainBlocklist": []string{"blocked.example.com"},
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	// A part of the requests is refused for its nonce, as a loaded authority does.
	p := pttest.New(t, ptproc.Variables{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"},
		peer(t, "pebble"), "-config", file, "-dnsserver", startDNS(t), "-strict")
	p.Begin()
	p.Line(`Listening on: `)
	_, port, err = net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	roots, err := os.ReadFile(certFile)
	if err != nil || !pool.AppendCertsFromPEM(roots) {
		t.Fatal("no roots", err)
	}
	return &pebble{
		directory: "https://localhost:" + port + "/dir", roots: certFile, manage: manage,
		client: &http.Client{Timeout: pttest.Patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}},
	}
}

// issued returns the root of what the authority has issued.
func (p *pebble) issued(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := p.client.Get("https://" + p.manage + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%q, %v", text, err)
	}
	return pool
}

// startDNS answers that every name is that of 127.0.0.1, and returns its address.
func startDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serveDNS(conn) }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

func serveDNS(conn net.PacketConn) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		answer, err := m.Pack()
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(answer, from); err != nil {
			return err
		}
	}
}

// acmeBridge is a bridge whose web server has certificates by ACME.
type acmeBridge struct {
	*pttest.Process
	orPort net.Listener
	log    string
}

// startACMEBridge starts one, which keeps its state in a directory.
func startACMEBridge(t *testing.T, state, listen, settings string) acmeBridge {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"t.wasm": testmodules.Load(t, "plain_v1"),
		"t.toml": []byte("[web]\nacme-terms-agreed = true\n" + settings),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	orPort := listenLoopback(t)
	log := filepath.Join(t.TempDir(), "log")
	env := ptproc.Server(state, orPort.Addr().String(), "t").With(ptproc.Variables{
		"TOR_PT_SERVER_BINDADDR": "t-" + listen, "TOR_PT_SERVER_TRANSPORT_OPTIONS": `t:url=https\://www.example.com/secret`,
	})
	p := pttest.New(t, env, waterproxy(t), "-modules", dir, "-log", "file:"+log)
	p.Begin()
	t.Cleanup(func() { end(t, p) })
	return acmeBridge{p, orPort, log}
}

// handshake shakes hands as a client that believes in some roots.
func handshake(t *testing.T, address, name string, roots *x509.CertPool) (*tls.Conn, error) {
	t.Helper()
	conn := tls.Client(pttest.Dial(t, address), &tls.Config{RootCAs: roots, ServerName: name})
	return conn, conn.Handshake()
}

// TestACME has a bridge get its certificates from a real authority, by a challenge at its
// own port, through the walls of the process; and use them again after a new start, without
// asking.
func TestACME(t *testing.T) {
	t.Parallel()
	address := pttest.FreeAddress(t)
	ca := startPebble(t, address)
	state := t.TempDir()
	settings := fmt.Sprintf("acme-domains = ['www.example.com', 'b\u00fccher.example.com']\nacme-email = 'me@example.com'\nacme-directory = '%s'\nacme-roots = '%s'\n", ca.directory, ca.roots)
	b := startACMEBridge(t, state, address, settings)
	const had = `^LOG SEVERITY=info MESSAGE=".*the web server has its certificate.*domain=`
	first := b.Line(had + `www\.example\.com`)[0]
	b.Line(had + `xn--bcher-kva\.example\.com`)
	roots := ca.issued(t)
	for _, name := range []string{"xn--bcher-kva.example.com", "www.example.com"} {
		conn, err := handshake(t, address, name, roots)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := io.WriteString(conn, "GET /secret HTTP/1.1\r\nHost: "+name+"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		or := pttest.Accept(t, b.orPort)
		want := "GET /secret HTTP/1.1\r\nHost: " + name
		got := make([]byte, len(want))
		if _, err := io.ReadFull(or, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	// Whoever asks for another name, for none, or answers a challenge of his own gets none.
	for name, config := range map[string]*tls.Config{
		"another name": {ServerName: "other.example.com"}, "no name": {}, "an address": {ServerName: "127.0.0.1"},
		"a challenge": {ServerName: "www.example.com", NextProtos: []string{"acme-tls/1"}},
	} {
		config.InsecureSkipVerify = true
		if err := tls.Client(pttest.Dial(t, address), config).Handshake(); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Keys are for this user alone.
	kept := 0
	err := filepath.WalkDir(filepath.Join(state, "acme"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if !entry.IsDir() {
			kept++
		}
		return err
	})
	if err != nil || kept != 3 { // two certificates with their keys, and the account's
		t.Errorf("%d files, %v", kept, err)
	}
	end(t, b.Process)

	again := startACMEBridge(t, state, address, settings)
	if second := again.Line(had + `www\.example\.com`)[0]; second != first {
		t.Errorf("after a new start the log has\n%s\nand before\n%s", second, first)
	}
	if _, err := handshake(t, address, "www.example.com", roots); err != nil {
		t.Error(err)
	}
}

// TestACMEFails: the log has the reason, in the authority's words, and visitors get a
// handshake that fails.
func TestACMEFails(t *testing.T) {
	t.Parallel()
	address := pttest.FreeAddress(t)
	elsewhere := startPebble(t, pttest.DeadAddress(t))
	for name, test := range map[string]struct{ domain, directory, roots, want string }{
		"no authority":       {"www.example.com", "https://" + pttest.DeadAddress(t) + "/dir", elsewhere.roots, `the authority cannot be reached.*refused`},
		"an unknown root":    {"www.example.com", elsewhere.directory, "", `the authority cannot be reached.*(unknown authority|x509)`},
		"a refused domain":   {"blocked.example.com", elsewhere.directory, elsewhere.roots, `the authority: .*blocked.example.com.*\(rejectedIdentifier\)`},
		"nobody at the port": {"www.example.com", elsewhere.directory, elsewhere.roots, `the authority: .*Failed to connect to .*\(unauthorized\)`},
	} {
		t.Run(name, func(t *testing.T) {
			settings := fmt.Sprintf("acme-domains = ['%s']\nacme-directory = '%s'\nacme-roots = '%s'\n", test.domain, test.directory, test.roots)
			b := startACMEBridge(t, t.TempDir(), address, settings)
			b.Line(`^LOG SEVERITY=warning MESSAGE=".*there is no certificate for the web server.*domain=` + test.domain + `.*` + test.want + `.*retry_in=5m`)
			_, err := handshake(t, address, test.domain, nil)
			if err == nil || !strings.Contains(err.Error(), "internal error") {
				t.Errorf("a handshake: %v", err)
			}
			began := time.Now()
			end(t, b.Process)
			if took := time.Since(began); took > exitTime {
				t.Errorf("the end took %v", took)
			}
		})
	}
}
