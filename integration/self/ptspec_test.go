package self

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/nettest"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// Tests of rules of the pluggable transport specification, version 1, that no other
// test is about. The names have the section; docs/conformance.md lists the rules.

// A name is a C identifier. One that is none is refused where an operator gives it, and
// unknown where tor asks for it.
func TestPTSpec_3_1_Names(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "_": true, "A9_z": true, strings.Repeat("x", 300): true,
		"": false, "9a": false, "a-b": false, "a.b": false, "é": false, "a b": false,
	} {
		flags := module(name, "plain_v1")
		p := start(t, clientVariables(name), flags...)
		switch {
		case ok:
			p.Line(`^CMETHOD ` + name + ` socks5 `)
		case name != "":
			p.Line(`^LOG SEVERITY=warning .*is no transport name`)
			if said := p.ready(); len(said) != 2 { // VERSION, CMETHODS DONE
				t.Errorf("%q: it said %q", name, said)
			}
		default:
			p.Line(`^ENV-ERROR the plugin's command line: `)
		}
		p.CloseStdin()
		p.Wait(pttest.EndLimit)
		p.checkOutput()
	}
	p := launch(t, clientVariables("a-b,a/b,../t,t,é"), module("t", "plain_v1")...)
	if said := p.ready(); len(said) != 3 { // VERSION, CMETHOD t, CMETHODS DONE
		t.Errorf("it said %q", said)
	}
}

// Nothing is written but in the state directory: not in the working directory, nor in
// HOME, nor where temporary files go.
func TestPTSpec_3_2_1_NothingElsewhere(t *testing.T) {
	home, temp := t.TempDir(), t.TempDir()
	env := serverVariables("kept,t", "127.0.0.1:1").With(ptproc.Variables{
		"HOME": home, "TMPDIR": temp, "XDG_CACHE_HOME": filepath.Join(home, "cache"),
	})
	p := launch(t, env, append(modulesFlags("kept", argtest, "t", "plain_v1"), "-module-state", "kept")...)
	pttest.AwaitClose(t, pttest.Dial(t, p.Address("t")))
	p.Address("kept")
	p.CloseStdin()
	p.Wait(pttest.EndLimit)
	for _, dir := range []string{p.Cmd.Dir, home, temp} {
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("files were made elsewhere: %q", left)
		}
	}
	for _, file := range []string{"compiled", "started/kept-server.json", "modules/kept/key", "crash.txt"} {
		if _, err := os.Stat(filepath.Join(stateDir, file)); err != nil {
			t.Errorf("not in the state directory: %v", err)
		}
	}
}

// Names that are not known are ignored, without an error, on both sides.
func TestPTSpec_3_2_2_UnknownNames(t *testing.T) {
	for _, env := range []ptproc.Variables{clientVariables("nosuch,*"), serverVariables("nosuch,other", "127.0.0.1:1")} {
		p := launch(t, env)
		said := p.ready()
		if len(said) != 2 || said[0] != "VERSION 1" {
			t.Errorf("it said %q", said)
		}
	}
}

// upstream is an HTTP proxy with a password. It counts its tunnels.
func upstream(t *testing.T, password string) (address string, tunnels chan string) {
	t.Helper()
	tunnels = make(chan string, 100)
	l := pttest.Listen(t)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(password))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer far.Close()
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		tunnels <- r.Host
		go func() {
			io.Copy(far, near)
			far.Close()
		}()
		io.Copy(near, far)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String(), tunnels
}

// Every outgoing connection goes through the proxy: that to the bridge, and that which
// a module opens by itself. One that the proxy refuses is not made.
func TestPTSpec_3_2_2_Proxy(t *testing.T) {
	const password = "us%er:p@ss/w:rd"
	proxy, tunnels := upstream(t, password)
	target := pttest.Listen(t)
	_, port, err := net.SplitHostPort(target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "fixed.cfg")
	if err := os.WriteFile(config, []byte("localhost:"+port), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := append(modulesFlags("t", "plain_v1", "own", "plain_fixedonly_v1"),
		"-module-config", "own="+config, "-module-allow", "own=localhost:"+port)
	env := clientVariables("t,own,plain")
	p := launch(t, env.With(ptproc.Variables{"TOR_PT_PROXY": "http://" + password + "@" + proxy}), flags...)
	for name, host := range map[string]string{"t": "127.0.0.1", "plain": "127.0.0.1", "own": "localhost"} {
		pttest.Echo(t, pttest.Connect(t, p.Address(name), target.Addr().String()), pttest.Accept(t, target))
		if got, want := <-tunnels, net.JoinHostPort(host, port); got != want {
			t.Errorf("%s: the proxy was asked for %s, want %s", name, got, want)
		}
	}
	wrong := launch(t, env.With(ptproc.Variables{"TOR_PT_PROXY": "http://us%er:wrong@" + proxy}), flags...)
	for _, name := range []string{"t", "plain", "own"} {
		if _, code := pttest.Ask(t, wrong.Address(name), target.Addr().String(), ""); code != pttest.ReplyFailure {
			t.Errorf("%s: reply %d", name, code)
		}
	}
	wrong.Line(`^LOG SEVERITY=warning MESSAGE=".*upstream http proxy: .*407 Proxy Authentication Required`)
	for _, line := range wrong.Stdout.All() {
		if strings.Contains(line, "wrong") || strings.Contains(line, "us%er") {
			t.Errorf("credentials were told: %s", line)
		}
	}
	if len(tunnels) > 0 {
		t.Error("the proxy made a connection without its password")
	}
}

// The proxy is answered for before any transport, and after the version.
func TestPTSpec_3_3_2_ProxyFirst(t *testing.T) {
	for _, kind := range []string{"http", "https", "socks4a", "socks5"} {
		p := launch(t, clientVariables("a").With(ptproc.Variables{"TOR_PT_PROXY": kind + "://127.0.0.1:1080"}), module("a", "plain_v1")...)
		said := strings.Join(p.ready(), "; ")
		if !regexp.MustCompile(`^VERSION 1; PROXY DONE; CMETHOD a socks5 \S+; CMETHODS DONE$`).MatchString(said) {
			t.Errorf("it said %q", said)
		}
	}
	p := launch(t, clientVariables("a"), module("a", "plain_v1")...)
	for _, line := range p.ready() {
		if strings.HasPrefix(line, "PROXY") {
			t.Errorf("without a proxy it said %q", line)
		}
	}
}

// A line is ASCII without NUL, and ends with the line's end, whatever is told in it.
func TestPTSpec_3_3_Lines(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "é\nCMETHODS DONE\x01\x7f\"\\")
	p := launch(t, clientVariables("odd"), "-module", "odd="+odd) // and launch checks each line
	p.Line(`^CMETHOD-ERROR odd read the module: `)
	if said := p.ready(); len(said) != 3 {
		t.Errorf("it said %q", said)
	}
}

// The list of transports ends with a line of its own, which is the last that counts.
func TestPTSpec_3_3_2_Done(t *testing.T) {
	bad := modulesFlags("good", "plain_v1", "bad", "bad_text")
	for keyword, env := range map[string]ptproc.Variables{
		"CMETHODS DONE": clientVariables("bad,good"),
		"SMETHODS DONE": serverVariables("bad,good", "127.0.0.1:1"),
	} {
		p := launch(t, env, bad...)
		said := p.ready()
		if len(said) != 4 || said[0] != "VERSION 1" || said[3] != keyword {
			t.Errorf("it said %q", said)
		}
	}
}

// Log lines are at a severity that tor knows, and have no address in them.
func TestPTSpec_3_3_4_Log(t *testing.T) {
	p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-log-level", "debug")...)
	dead := pttest.DeadAddress(t)
	pttest.Ask(t, p.Address("t"), dead, "")
	p.Line(`^LOG SEVERITY=warning MESSAGE="\\042cannot connect\\042 transport=t kind=\\042connection refused\\042 bridge=\[scrubbed\] error=\\042.*refused\\042"$`)
	echoThrough(t, p.Address("t"))
	for _, line := range p.Stdout.All() {
		if strings.HasPrefix(line, "LOG ") && strings.Contains(line, "127.0.0.1") {
			t.Errorf("an address was logged: %s", line)
		}
	}
}

// Status lines tell the version, and the fate of each connection without its address.
func TestPTSpec_3_3_5_Status(t *testing.T) {
	p := launch(t, clientVariables("t"), module("t", "plain_v1")...)
	p.Line(`^STATUS TYPE=version IMPLEMENTATION="waterproxy" VERSION="` + regexp.QuoteMeta(program.Version) + `"$`)
	echoThrough(t, p.Address("t"))
	p.Line(`^STATUS TRANSPORT=t CONNECT=Success$`)
	pttest.Ask(t, p.Address("t"), pttest.DeadAddress(t), "")
	p.Line(`^STATUS TRANSPORT=t CONNECT=Failed ERRSTR="[^"]*connection refused"$`)
	for _, line := range p.Stdout.All() {
		if strings.HasPrefix(line, "STATUS ") && strings.Contains(line, "127.0.0.1") {
			t.Errorf("an address was told: %s", line)
		}
	}
}

// An address is a number and not a name, and there is one for each transport. Who has
// none gets any. Both may be of either family.
func TestPTSpec_3_2_3_BindAddress(t *testing.T) {
	flags := modulesFlags("a", "plain_v1", "b", "plain_v1")
	server := serverVariables("a,b", "127.0.0.1:1")
	p := launch(t, server.Without("TOR_PT_SERVER_BINDADDR"), flags...)
	p.Line(`^SMETHOD a 0\.0\.0\.0:[1-9]\d*$`)
	p.Line(`^SMETHOD b 0\.0\.0\.0:[1-9]\d*$`)
	p = launch(t, server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "a-127.0.0.1:0"}), flags...)
	p.Line(`^SMETHOD a 127\.0\.0\.1:[1-9]\d*$`)
	p.Line(`^SMETHOD b 0\.0\.0\.0:[1-9]\d*$`)
	if nettest.SupportsIPv6() {
		p = launch(t, server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "a-[::1]:0,b-[::]:0"}), flags...)
		p.Line(`^SMETHOD a \[::1\]:[1-9]\d*$`)
		p.Line(`^SMETHOD b \[::\]:[1-9]\d*$`)
	}
	for _, bind := range []string{"a-localhost:0", "a-127.0.0.1:0,a-127.0.0.2:0"} {
		p := run(t, server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": bind}), flags...)
		p.Line(`^ENV-ERROR TOR_PT_SERVER_BINDADDR`)
	}
}

// The ORPort gets what the client sent, and nothing before it.
func TestPTSpec_3_2_3_ORPort(t *testing.T) {
	orPort := pttest.Listen(t)
	p := launch(t, serverVariables("t", orPort.Addr().String()), module("t", "plain_v1")...)
	c := pttest.Dial(t, p.Address("t"))
	far := pttest.Accept(t, orPort)
	if _, err := c.Write([]byte("payload")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); string(got) != "payload" || err != nil {
		t.Errorf("the ORPort got %q, %v", got, err)
	}
}

// Equal signs and commas in what a server publishes are escaped.
func TestPTSpec_3_3_3_Args(t *testing.T) {
	env := serverVariables("t", "127.0.0.1:1").With(ptproc.Variables{"TOR_PT_SERVER_TRANSPORT_OPTIONS": `t:key=a\=b,c\\d`})
	p := launch(t, env, module("t", argtest)...)
	p.ready()
	p.Line(`^SMETHOD t \S+ ARGS:key=a\\=b\\,c\\\\d$`)
}
