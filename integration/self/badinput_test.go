package self

import (
	"encoding/base64"
	"io"
	"strings"
	"syscall"
	"testing"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// goodCert is one that no bridge has.
var goodCert = base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("c", 52)))

// A client does not start with a bridge line that no connection could use.
func TestBadBridgeLine(t *testing.T) {
	good := "cert=" + goodCert
	for line, want := range map[string]string{
		"obfs4 127.0.0.1:9":                                         "obfs4: the argument cert is missing",
		"obfs4 127.0.0.1:9 iat-mode=0":                              "obfs4: the argument cert is missing",
		"obfs4 127.0.0.1:9 cert=AAAA iat-mode=0":                    "obfs4: the argument cert is 3 bytes long, not 52; copy the whole bridge line",
		"obfs4 127.0.0.1:9 cert= iat-mode=":                         "obfs4: the argument cert is 0 bytes long",
		"obfs4 127.0.0.1:9 cert=%" + goodCert[1:] + " iat-mode=0":   "obfs4: the argument cert is not base64",
		"obfs4 127.0.0.1:9 " + good:                                 "obfs4: the argument iat-mode is missing",
		"obfs4 127.0.0.1:9 " + good + " iat-mode=":                  "obfs4: the argument iat-mode is none of 0, 1 and 2",
		"obfs4 127.0.0.1:9 " + good + " iat-mode=9":                 "obfs4: the argument iat-mode is none of 0, 1 and 2",
		"obfs4 127.0.0.1:9 " + good + " iat-mode=0 iat-mode=1":      "obfs4: the argument iat-mode is given more than once",
		"obfs4 127.0.0.1:9 node-id=00 public-key=00 iat-mode=0":     "obfs4: the argument node-id is 1 bytes long",
		"shadowsocks 127.0.0.1:9":                                   "shadowsocks: the argument password is missing",
		"shadowsocks 127.0.0.1:9 password=":                         "shadowsocks: the argument password is empty",
		"shadowsocks 127.0.0.1:9 password=x cipher=rot13":           "shadowsocks: the argument cipher is none of",
		"shadowsocks 127.0.0.1:9 password=x cipher=":                "shadowsocks: the argument cipher is none of",
		"shadowsocks 127.0.0.1:9 password=x target=192.0.2.1":       "shadowsocks: the argument target is not of the form HOST:PORT",
		"webtunnel [2001:db8::1]:443":                               "webtunnel: the argument url is missing",
		"webtunnel [2001:db8::1]:443 url=ftp://a.example/b":         "webtunnel: the argument url does not begin with https:// or http://; copy the whole bridge line",
		"webtunnel [2001:db8::1]:443 url=https:///b":                "webtunnel: the argument url has no host",
		"webtunnel [2001:db8::1]:443 url=https://a.example/b ver=9": "webtunnel: the argument ver is not a version",
		"webtunnel [2001:db8::1]:443 url=https://a.example utls=x":  "webtunnel: the argument utls names no known fingerprint",
		"192.0.2.1:443 0123456789ABCDEF0123456789ABCDEF01234567":    "names no transport",
		"obfs4 127.0.0.1:9 " + good + "\nobfs4 127.0.0.1:9 " + good: "more than one line",
	} {
		p := runPlain(t, "client", "-state", plainState(), "-socks", "127.0.0.1:0", line)
		p.CheckStatus(program.ExitUsage)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, want) {
			t.Errorf("%q: standard error has %q, want %q", line, text, want)
		}
		if said := p.Stdout.All(); len(said) > 0 {
			t.Errorf("%q: it says %q", line, said)
		}
	}
}

// Good arguments are no obstacle, nor are unknown ones, which other versions may know,
// nor is the way in which a line was pasted.
func TestGoodBridgeLine(t *testing.T) {
	for _, line := range []string{
		"“Bridge obfs4 127.0.0.1:9 cert=" + goodCert + " iat-mode=0 unknown=1”",
		"'obfs4 127.0.0.1:9 \"cert=" + goodCert + "\"\u00a0iat-mode='2''\n",
		"shadowsocks 127.0.0.1:9 password=x",
		"webtunnel [2001:db8::1]:443 url=https://a.example/b ver=0.0.3 utls=HelloChrome_Auto unknown=1",
		"plain 127.0.0.1:9 unknown=1", "reverse 127.0.0.1:9", "mux 127.0.0.1:9 unknown=",
	} {
		p := startPlain(t, "client", "-state", plainState(), "-socks", "127.0.0.1:0", line)
		p.Line(`^SOCKS5 proxy at (\S+)$`)
		p.Send(syscall.SIGTERM)
		p.Wait(pttest.EndLimit)
	}
}

// Options of a server that its module refuses are known before there is a bridge line.
func TestBadOptions(t *testing.T) {
	for option, want := range map[string]string{
		"obfs4 iat-mode=9":         "obfs4: start module: the module says: the argument iat-mode is none of 0, 1 and 2",
		"webtunnel url=a.example":  "webtunnel: start module: the module says: the argument url does not begin with https:// or http://",
		"shadowsocks cipher=rot13": "shadowsocks: start module: the module says: the argument cipher is none of",
	} {
		name, option, _ := strings.Cut(option, " ")
		p := runPlain(t, "server", "-state", plainState(), "-transport", name, "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:9", "-option", option)
		p.CheckStatus(program.ExitFailure)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, want) || len(p.Stdout.All()) > 0 {
			t.Errorf("%s: it says %q and %q, want %q", option, text, p.Stdout.All(), want)
		}
	}
}

// Flags that make no sense are refused before anything listens.
func TestBadFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"client", "-drain", "-1s", "plain", "127.0.0.1:9"}, "-drain: -1s is no time to wait"},
		{[]string{"client", "-drain", "1", "plain", "127.0.0.1:9"}, "-drain"},
		{[]string{"client", "-socks", "1080", "plain", "127.0.0.1:9"}, "-socks: \"1080\" is not of the form HOST:PORT"},
		{[]string{"client", "-forward", "127.0.0.1:65536", "plain", "127.0.0.1:9"}, "-forward: \"65536\" is no port"},
		{[]string{"client", "plain", "127.0.0.1:9", "-socks", "127.0.0.1:0"}, "flags come before it"},
		{[]string{"server", "-drain", "-1ms", "-transport", "plain", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:9"}, "-drain: -1ms"},
		{[]string{"server", "-transport", "plain", "-listen", "127.0.0.1", "-forward", "127.0.0.1:9"}, "-listen: \"127.0.0.1\" is not of the form HOST:PORT"},
		{[]string{"server", "-transport", "plain", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:0"}, "-forward: \"0\" is no port"},
		{[]string{"server", "-transport", "plain", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:9", "-public", "192.0.2.1"}, "-public: \"192.0.2.1\" is not"},
		{[]string{"status", "-interval", "0", "unix:x"}, "-interval: 0s is no time"},
		{[]string{"status", "-interval", "-1s", "unix:x"}, "-interval: -1s is no time"},
		{[]string{"check", "-timeout", "0", "plain", "127.0.0.1:9"}, "-timeout: 0s is no time"},
		{[]string{"check", "-modules", ".", "nowhere"}, "\"nowhere\" is no bridge line"},
	} {
		p := run(t, nil, test.args...)
		p.CheckStatus(program.ExitUsage)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, test.want) {
			t.Errorf("%q: standard error has %q, want %q", test.args, text, test.want)
		}
	}
	p := start(t, clientVariables("plain"), "-drain", "-1s")
	p.Line(`^ENV-ERROR the plugin's command line: -drain: -1s is no time to wait; it is 0 or more, as 30s$`)
	p.Wait(pttest.Patience)
	p.CheckStatus(program.ExitUsage)
}

// `waterproxy check` says in words why a bridge cannot be used.
func TestCheckLine(t *testing.T) {
	obfs4 := " cert=" + goodCert + " iat-mode=0"
	silent, closing := pttest.Listen(t), pttest.Listen(t)
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 1))
			c.Close()
		}
	}()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"obfs4 127.0.0.1:9"}, "obfs4: the argument cert is missing"},
		{[]string{"unknown", "127.0.0.1:9"}, "no such transport: unknown; there are mux, obfs4, plain, reverse, shadowsocks, webtunnel"},
		{[]string{"ob-fs 127.0.0.1:9"}, "no transport's name"},
		{[]string{"Bridge", "plain", pttest.DeadAddress(t)}, "refuses the connection"},
		{[]string{"plain no..host:9"}, "cannot resolve no..host"},
		{[]string{"obfs4 " + closing.Addr().String() + obfs4}, "closed the connection during the handshake"},
		{append([]string{"-timeout", "1s", "obfs4", silent.Addr().String()}, strings.Fields(obfs4)...), "the handshake was not answered within 1s"},
		{append(module("t", "evil_trap_dial_v1"), "t", silent.Addr().String()), "but this side failed: "},
	} {
		p := runPlain(t, append([]string{"check"}, test.args...)...)
		p.CheckStatus(program.ExitFailure)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, test.want) {
			t.Errorf("%q: standard error has %q, want %q", test.args, text, test.want)
		}
	}
}

// What a success proves depends on the transport.
func TestCheckLineConnects(t *testing.T) {
	for name, want := range map[string]string{
		"obfs4": "with the key that the line names", "plain": "proves only that something accepts TCP", "mux": "proves only", "shadowsocks": "proves only",
	} {
		_, line := bridge(t, "-transport", name, "-forward", pttest.DeadAddress(t))
		p := runPlain(t, "check", line)
		p.CheckStatus(0)
		if text := strings.Join(p.Stdout.All(), "\n"); !strings.HasPrefix(text, name+": connected in ") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", name, text, want)
		}
	}
}

// An HTTP client that takes the SOCKS port for an HTTP proxy gets an answer it can show,
// and the log says what came, once, and then how often.
func TestSOCKSPortGetsHTTP(t *testing.T) {
	managed := launch(t, clientVariables("plain"))
	standalone := serve(t, "client", "-state", stateDir, "-socks", "127.0.0.1:0", "plain", pttest.DeadAddress(t))
	for _, test := range []struct {
		p    *process
		at   string
		log  *ptproc.Lines
		line string
	}{
		{managed, managed.Address("plain"), managed.Stdout, `LOG SEVERITY=warning MESSAGE=.*SOCKS port.*kind=.*HTTP request instead of SOCKS5`},
		{standalone, standalone.Line(`^SOCKS5 proxy at (\S+)$`)[1], standalone.Stderr, `level=WARN msg="the SOCKS port.* kind="HTTP request instead of SOCKS5"`},
	} {
		for range 3 {
			c := pttest.Dial(t, test.at)
			if _, err := io.WriteString(c, "GET http://secret.example/ HTTP/1.1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 501 ") {
				t.Errorf("the answer is %q, %v", answer, err)
			}
		}
		test.p.Await(test.log, test.line)
		test.p.Signal(syscall.SIGTERM)
		test.p.Await(test.log, `2 more connections failed: HTTP request instead of SOCKS5 \(2\)`)
		test.p.Wait(pttest.Patience)
		if text := strings.Join(test.log.All(), "\n"); strings.Contains(text, "secret") || strings.Count(text, "HTTP request") != 2 {
			t.Errorf("the log is %s", text)
		}
	}
}

// A backend that is down is a warning, and a client that is none of ours is not.
func TestServerLogsOwnFaults(t *testing.T) {
	p, line := bridge(t, "-transport", "plain", "-forward", pttest.DeadAddress(t))
	for range 2 {
		c := pttest.Dial(t, strings.Fields(line)[2])
		pttest.AwaitClose(t, c)
	}
	p.ErrorLine(`level=WARN msg="cannot connect to the address to forward to" transport=plain kind="the address to forward to: connection refused"`)

	q, line := bridge(t, "-transport", "argtest", "-forward", pttest.DeadAddress(t), "-option", "key=x", "-module", module("argtest", "go/argtest")[1])
	c := pttest.Dial(t, strings.Fields(line)[2])
	if _, err := io.WriteString(c, "\x00\x05key=y"); err != nil {
		t.Fatal(err)
	}
	pttest.AwaitClose(t, c)
	q.ErrorLine(`level=INFO msg="an inbound connection was not set up" transport=argtest kind="given up by the module"`)
}
