package self

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

const (
	webUpgrade = "GET /secret HTTP/1.1\r\nHost: www.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	webOption  = `t:url=https\://www.example.com/secret`
)

// webFolder returns a directory of modules with a transport t, whose settings have a web
// server with a certificate, and the pages in site.
func webFolder(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "site"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"t.wasm": testmodules.Load(t, "plain_v1"), "t.toml": []byte("[web]\n" + more), "site/index.html": []byte("Recipes"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pttest.WriteCertificate(t, dir, "www.example.com")
	return dir
}

// webPages are settings for what is in a webFolder.
const webPages = "certificate = 'chain.pem'\nkey = 'key.pem'\nsite = 'site'\n"

// webFetch returns the status and the body of a page, and the name in the certificate.
func webFetch(t *testing.T, address, at string) (page, name string) {
	t.Helper()
	client := http.Client{Timeout: pttest.Patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
	resp, err := client.Get("https://" + address + at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body))), resp.TLS.PeerCertificates[0].Subject.CommonName
}

// webDial upgrades a connection to a web server.
func webDial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn := tls.Client(pttest.Dial(t, address), &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com"})
	if _, err := io.WriteString(conn, webUpgrade); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends from each end to the other.
func exchange(t *testing.T, near, far net.Conn, up string) {
	t.Helper()
	if _, err := io.WriteString(near, up); err != nil {
		t.Fatal(err)
	}
	expectText(t, far, up)
	if _, err := io.WriteString(far, "back"); err != nil {
		t.Fatal(err)
	}
	expectText(t, near, "back")
}

func expectText(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got[:n], err, want)
	}
}

// A bridge is a web server to everybody but those who upgrade the secret path. Its
// certificate and its pages change while it runs.
func TestWebServer(t *testing.T) {
	dir := webFolder(t, webPages)
	orPort := pttest.Listen(t)
	p := launch(t, withOptions(orPort.Addr().String(), webOption), "-modules", dir)
	address := p.Address("t")
	for at, want := range map[string]string{"/": "200 Recipes", "/secret": "404 404 page not found", "/other": "404 404 page not found"} {
		if page, _ := webFetch(t, address, at); page != want {
			t.Errorf("%s: %q, want %q", at, page, want)
		}
	}
	client := webDial(t, address)
	or := pttest.Accept(t, orPort)
	expectText(t, or, webUpgrade) // the module carries what it gets
	exchange(t, client, or, "there")

	// The other end sees the end of a direction, and its own goes on.
	if err := client.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := or.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := io.WriteString(or, "the rest"); err != nil {
		t.Fatal(err)
	}
	expectText(t, client, "the rest")
	or.Close()
	if n, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d, %v", n, err)
	}

	next := t.TempDir()
	certFile, keyFile := pttest.WriteCertificate(t, next, "new.example.com")
	for from, to := range map[string]string{certFile: "chain.pem", keyFile: "key.pem"} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		install(t, filepath.Join(dir, to), content)
	}
	install(t, filepath.Join(dir, "site/index.html"), []byte("More recipes"))
	p.hangUp()
	for end := time.Now().Add(pttest.Patience); ; time.Sleep(10 * time.Millisecond) {
		page, name := webFetch(t, address, "/")
		if page == "200 More recipes" && name == "new.example.com" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%q, with the certificate of %s", page, name)
		}
	}
	install(t, filepath.Join(dir, "t.toml"), []byte("[web]\n"+webPages+"connections = 3\n"))
	p.hangUp()
	p.Line(`^LOG SEVERITY=warning MESSAGE=".*the web server goes on with what it had.*t.toml:5: web.connections: `)
	client = webDial(t, address)
	or = pttest.Accept(t, orPort)
	expectText(t, or, webUpgrade)
	exchange(t, client, or, "there")
}

// Behind a reverse proxy tor learns the address that the proxy has seen.
func TestWebServerBehindProxy(t *testing.T) {
	cookie := random(32)
	file := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(file, append([]byte(pttest.CookieHeader), cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	port := pttest.Listen(t)
	env := withOptions(pttest.DeadAddress(t), webOption).With(ptproc.Variables{
		"TOR_PT_EXTENDED_SERVER_PORT": port.Addr().String(), "TOR_PT_AUTH_COOKIE_FILE": file,
	})
	p := launch(t, env, "-modules", webFolder(t, "trusted-proxies = ['127.0.0.1']"))
	client := pttest.Dial(t, p.Address("t"))
	request := strings.Replace(webUpgrade, "\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.5, 192.0.2.7\r\n\r\n", 1)
	if _, err := io.WriteString(client, request+"early"); err != nil {
		t.Fatal(err)
	}
	or := pttest.Accept(t, port)
	tor := &pttest.ExtORPort{Cookie: cookie}
	if err := tor.Serve(or); err != nil {
		t.Fatal(err)
	}
	if got := tor.Commands[1]; got != "192.0.2.7:60000" {
		t.Errorf("USERADDR is %q", got)
	}
	expectText(t, or, webUpgrade+"early")
	pttest.Echo(t, client, or)
}

// What is wrong with a web server is an error with its place, for tor and for check, and
// nothing listens.
func TestWebServerErrors(t *testing.T) {
	for name, test := range map[string]struct{ settings, option, want string }{
		"no url":         {webPages, `t:x=y`, `t\.toml:1: web: the server's option url must be https://HOST/PATH`},
		"a url":          {webPages, `t:url=www.example.com/secret`, `t\.toml:1: web: the server's option url must be`},
		"no path":        {webPages, `t:url=https\://www.example.com/`, `t\.toml:1: web: .*without a path everybody`},
		"no such file":   {"certificate = 'x'\nkey = 'y'", webOption, `t\.toml:2: web\.certificate: .*no such file`},
		"not its key":    {"certificate = 'chain.pem'\nkey = 'chain.pem'", webOption, `t\.toml:2: web\.certificate: it is not usable with its key`},
		"no site":        {"\nsite = 'nowhere'", webOption, `t\.toml:3: web\.site: .*no such file`},
		"no terms":       {"acme-domains = ['www.example.com']", webOption, `t\.toml:2: web\.acme-domains: .*terms of service`},
		"an unknown key": {"certificat = 'x'", webOption, `t\.toml:2: web\.certificat: there is no such key`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := webFolder(t, test.settings)
			p := launch(t, withOptions("127.0.0.1:1", test.option), "-modules", dir)
			line := p.Line(`^SMETHOD-ERROR t .*` + test.want)[0]
			if strings.Contains(line, "secret") {
				t.Errorf("the secret path is in %q", line)
			}
			for _, line := range p.ready() {
				if strings.HasPrefix(line, "SMETHOD t ") {
					t.Errorf("%q", line)
				}
			}
			if strings.Contains(test.want, "option url") || strings.Contains(test.want, "without a path") {
				return // of which settings know nothing
			}
			for _, what := range []string{dir, filepath.Join(dir, "t.toml")} {
				c := run(t, nil, "check", what)
				c.CheckStatus(1)
				c.ErrorLine(test.want)
			}
		})
	}
}

// The standalone server has the same settings; the bridge line has no more than before.
func TestWebServerStandalone(t *testing.T) {
	service := pttest.Listen(t)
	dir := webFolder(t, webPages)
	p := serve(t, "server", "-state", stateDir, "-listen", "127.0.0.1:0", "-transport", "t", "-modules", dir,
		"-forward", service.Addr().String(), "-option", "url=https://www.example.com/secret")
	address := p.Line(`^Bridge t (\S+)$`)[1]
	if page, _ := webFetch(t, address, "/"); page != "200 Recipes" {
		t.Errorf("the page is %q", page)
	}
	client := webDial(t, address)
	far := pttest.Accept(t, service)
	expectText(t, far, webUpgrade)
	exchange(t, client, far, "there")

	bad := run(t, nil, "server", "-state", stateDir, "-listen", "127.0.0.1:0", "-transport", "t", "-modules", dir, "-forward", service.Addr().String())
	bad.CheckStatus(1)
	bad.ErrorLine(`t\.toml:1: web: the server's option url must be`)
}

// A web server comes and goes with the start of a process only; the log says so, and
// connections go on as before.
func TestWebServerComesLater(t *testing.T) {
	dir := webFolder(t, webPages)
	settings := filepath.Join(dir, "t.toml")
	orPort := pttest.Listen(t)
	with := launch(t, withOptions(orPort.Addr().String(), webOption), "-modules", dir)
	client := webDial(t, with.Address("t"))
	or := pttest.Accept(t, orPort)
	expectText(t, or, webUpgrade)
	exchange(t, client, or, "there")
	install(t, settings, []byte("instances = 1\n"))
	with.hangUp()
	with.Line(`^LOG SEVERITY=warning MESSAGE=".*the web server goes on with what it had.*has gone`)
	if page, _ := webFetch(t, with.Address("t"), "/"); page != "200 Recipes" {
		t.Errorf("the page is %q", page)
	}

	without := launch(t, withOptions(orPort.Addr().String(), webOption), "-modules", dir)
	pttest.Echo(t, pttest.Dial(t, without.Address("t")), pttest.Accept(t, orPort))
	install(t, settings, []byte("[web]\n"+webPages))
	without.hangUp()
	without.Line(`^LOG SEVERITY=warning MESSAGE=".*a new version cannot be used.*t.toml:1: web: the table is new`)
	pttest.Echo(t, pttest.Dial(t, without.Address("t")), pttest.Accept(t, orPort))
}
