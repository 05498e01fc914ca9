package self

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// serve runs a subcommand until the test ends.
func serve(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, nil, args...)
	t.Cleanup(func() { p.Signal(syscall.SIGTERM); p.Wait(pttest.EndLimit) })
	return p
}

// behind serves one page and returns its address.
func behind(t *testing.T, page string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) }))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// bridge starts a standalone server and returns the line that it prints.
func bridge(t *testing.T, args ...string) (p *process, line string) {
	t.Helper()
	p = serve(t, append([]string{"server", "-state", stateDir, "-listen", "127.0.0.1:0"}, args...)...)
	return p, p.Line(`^Bridge \S+ \S+:\d+.*$`)[0]
}

func fetch(t *testing.T, tr *http.Transport, at string) string {
	t.Helper()
	tr.DisableKeepAlives = true
	client := http.Client{Transport: tr, Timeout: pttest.Patience}
	resp, err := client.Get("http://" + at + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Both kinds of client reach what is behind the server. (The built-in transports are
// tested with curl, in package integration.)
func TestStandalone(t *testing.T) {
	page := "what is behind the bridge"
	module := module("t", "many_c")
	_, line := bridge(t, append(module, "-transport", "t", "-forward", behind(t, page))...)
	client := append([]string{"client", "-state", stateDir}, module...)
	forward := serve(t, append(client, "-forward", "127.0.0.1:0", line)...)
	at := forward.Line(`^TCP forward at (\S+)$`)[1]
	if got := fetch(t, &http.Transport{}, at); got != page {
		t.Errorf("through the forward: %q", got)
	}
	// The line need not be quoted.
	socks := serve(t, append(append(client, "-socks", "127.0.0.1:0"), strings.Fields(line)...)...)
	at = socks.Line(`^SOCKS5 proxy at (\S+)$`)[1]
	for _, user := range []*url.Userinfo{nil, url.UserPassword("name", "password")} {
		via := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: at, User: user})}
		for _, target := range []string{"anything.example", "192.0.2.1:81", "[2001:db8::1]"} {
			if got := fetch(t, via, target); got != page {
				t.Errorf("through the SOCKS5 proxy to %s: %q", target, got)
			}
		}
	}
}

// A bridge line keeps its keys over a restart of the server. Options reach the module,
// and the address is the one that the operator gives.
func TestStandaloneServerKeys(t *testing.T) {
	state := warmState(t)
	line := func(args ...string) string {
		t.Helper()
		p, line := bridge(t, append([]string{"-state", state, "-transport", "shadowsocks", "-forward", "127.0.0.1:9"}, args...)...)
		p.Signal(syscall.SIGTERM)
		p.Wait(pttest.EndLimit)
		p.CheckStatus(0)
		return line
	}
	first := line("-public", "bridge.example:443")
	if again := line("-public", "bridge.example:443"); again != first || !strings.HasPrefix(first, "Bridge shadowsocks bridge.example:443 cipher=") {
		t.Errorf("the line is %q, and then %q", first, again)
	}
	if got, want := line("-option", "password=mine", "-option", "cipher=aes-128-gcm"), " cipher=aes-128-gcm password=mine"; !strings.HasSuffix(got, want) {
		t.Errorf("with options it is %q, want %q at the end", got, want)
	}
}

// The client answers with what became of a request.
func TestStandaloneRefused(t *testing.T) {
	p := serve(t, "client", "-state", stateDir, "-socks", "127.0.0.1:0", "-log-addresses", "plain", pttest.DeadAddress(t))
	at := p.Line(`^SOCKS5 proxy at (\S+)$`)[1]
	d, err := proxy.SOCKS5("tcp", at, nil, proxy.Direct)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := d.Dial("tcp", "x.example:80"); err == nil {
		c.Close()
		t.Error("there is a connection to nobody")
	} else if !strings.Contains(err.Error(), "refused") {
		t.Errorf("the error is %v", err)
	}
	p.ErrorLine(`cannot connect.*bridge=127\.0\.0\.1:.*connection refused`)
}

// The first signal lets connections end, the second and the limit do not.
func TestStandaloneSignals(t *testing.T) {
	backend := pttest.Listen(t)
	_, line := bridge(t, "-transport", "plain", "-forward", backend.Addr().String())
	for name, limit := range map[string]string{"one": "1h", "two": "1h", "limit": "1s"} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, "client", "-state", stateDir, "-forward", "127.0.0.1:0", "-drain", limit, line)
			at := p.Line(`^TCP forward at (\S+)$`)[1]
			near := pttest.Dial(t, at)
			far := pttest.Accept(t, backend)
			if err := pttest.Exchange(crossed{near, far}, []byte("x"), []byte("x")); err != nil {
				t.Fatal(err) // it is up on both sides
			}
			p.Signal(syscall.SIGINT)
			p.ErrorLine("ending when the connections have")
			awaitDeaf(t, at)
			switch name {
			case "one":
				if err := pttest.Exchange(crossed{near, far}, []byte("x"), []byte("x")); err != nil {
					t.Error(err)
				}
				near.Close()
				far.Close()
			case "two":
				p.Signal(syscall.SIGINT)
			case "limit":
				p.ErrorLine("ending with connections left")
			}
			p.Wait(pttest.EndLimit)
			p.CheckStatus(0)
		})
	}
}

// Modules are replaced without tor as well.
func TestStandaloneReload(t *testing.T) {
	dir := t.TempDir()
	wasm := testmodules.Load(t, "plain_v1")
	install(t, filepath.Join(dir, "t.wasm"), wasm)
	p := serve(t, "client", "-state", t.TempDir(), "-modules", dir, "-forward", "127.0.0.1:0", "-log", "file", "t", pttest.DeadAddress(t))
	p.Line(`^TCP forward`)
	install(t, filepath.Join(dir, "t.wasm"), moduleVersion(wasm, 1))
	p.hangUp()
	file := filepath.Join(p.args("-state"), "file")
	for end := time.Now().Add(pttest.Patience); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(file)
		if strings.Contains(string(text), loaded) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the log is %q, %v", text, err)
		}
	}
	if said := p.Stderr.All(); len(said) > 0 {
		t.Errorf("standard error has %q", said)
	}
}

// args returns the value of a flag that the process was given.
func (p *process) args(name string) string {
	for i, arg := range p.Cmd.Args {
		if arg == name {
			return p.Cmd.Args[i+1]
		}
	}
	p.T.Fatalf("there is no %s", name)
	return ""
}

func TestStandaloneUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"client"}, 2, "TRANSPORT ADDRESS:PORT"},
		{[]string{"client", "plain", "nowhere"}, 2, "HOST:PORT"},
		{[]string{"client", "-socks", "127.0.0.1:0", "-forward", "127.0.0.1:0", "plain", "127.0.0.1:1"}, 2, "exclude each other"},
		{[]string{"client", "-socks", "127.0.0.1:0", "unknown", "127.0.0.1:1"}, 1, "no such transport: unknown; there are mux, obfs4, plain"},
		{[]string{"client", "-socks", "127.0.0.1:0", "-log-format", "xml", "plain", "127.0.0.1:1"}, 2, "xml"},
		{[]string{"client", "-socks", "127.0.0.1:x", "plain", "127.0.0.1:1"}, 2, "-socks: \"x\" is no port"},
		{[]string{"server"}, 2, "are needed"},
		{[]string{"server", "x"}, 2, "no arguments"},
		{[]string{"server", "-transport", "plain", "-listen", "127.0.0.1:0", "-forward", "x"}, 2, "HOST:PORT"},
		{[]string{"server", "-option", "x"}, 2, "KEY=VALUE"},
		{[]string{"server", "-transport", "unknown", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:1"}, 1, "no such transport"},
		{[]string{"status"}, 2, "takes the address"},
		{[]string{"status", "unix:/nowhere"}, 1, "no such file"},
		{[]string{"check"}, 2, "directories or files"},
		{[]string{"check", "/nowhere"}, 1, "no such file"},
	} {
		if i := len(test.args); i > 1 && (test.args[0] == "client" || test.args[0] == "server") {
			test.args = append([]string{test.args[0], "-state", stateDir}, test.args[1:]...)
		}
		p := run(t, nil, test.args...)
		p.CheckStatus(test.status)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, test.want) {
			t.Errorf("%q: standard error has %q, want %q", test.args, text, test.want)
		}
	}
}
