package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseArguments(t *testing.T) {
	for _, c := range []struct {
		name, in string
		sep      byte
		want     arguments
		bad      bool
	}{
		{name: "none", in: "", sep: ';'},
		{name: "one", in: "k=v", sep: ';', want: arguments{{"k", "v"}}},
		{name: "two", in: "cert=ab+c/,iat-mode=0", sep: ',', want: arguments{{"cert", "ab+c/"}, {"iat-mode", "0"}}},
		{name: "empty value", in: "k=", sep: ';', want: arguments{{"k", ""}}},
		{name: "equals sign in the value", in: "k=a=b==", sep: ';', want: arguments{{"k", "a=b=="}}},
		{name: "escapes", in: `a\=b=c\;d\\;e=\=`, sep: ';', want: arguments{{"a=b", `c;d\`}, {"e", "="}}},
		{name: "other separator is plain", in: "a=1,2;b=3", sep: ';', want: arguments{{"a", "1,2"}, {"b", "3"}}},
		{name: "no value", in: "k", sep: ';', bad: true},
		{name: "no key", in: "=v", sep: ';', bad: true},
		{name: "separator at the end", in: "k=v;", sep: ';', bad: true},
		{name: "backslash at the end", in: `k=v\`, sep: ';', bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseArguments(c.in, c.sep)
			if (err != nil) != c.bad {
				t.Fatalf("error %v, want one: %v", err, c.bad)
			}
			if !c.bad && !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestArgumentsSurviveSOCKSEncoding(t *testing.T) {
	for _, args := range []arguments{
		{{"cert", "AbC+/=="}, {"iat-mode", "0"}},
		{{`k;=\`, `v;=\`}},
		{{"empty", ""}, {"comma", "a,b"}, {"colon", "a:b"}},
		{{"utf8", "зашифровано"}, {"nul", "\x00"}},
	} {
		encoded := args.socks()
		got, err := parseArguments(encoded, ';')
		if err != nil {
			t.Fatalf("%q: %v", encoded, err)
		}
		if !reflect.DeepEqual(got, args) {
			t.Errorf("%q: got %q, want %q", encoded, got, args)
		}
	}
}

func TestArgumentsWith(t *testing.T) {
	base := arguments{{"a", "1"}, {"b", "2"}}
	got := base.with(arguments{{"b", "3"}, {"c", "4"}})
	if want := (arguments{{"a", "1"}, {"b", "3"}, {"c", "4"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if base[1].value != "2" {
		t.Error("the receiver was changed")
	}
}

func TestServerOptions(t *testing.T) {
	got := arguments{{"a", "1:2"}, {"b", `x;y\`}}.serverOptions("obfs4")
	if want := `obfs4:a=1\:2;obfs4:b=x\;y\\`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseMethodLine(t *testing.T) {
	for _, c := range []struct {
		line string
		ok   bool
		bad  bool
		want methodLine
	}{
		{line: "CMETHOD obfs4 socks5 127.0.0.1:1234", ok: true, want: methodLine{addr: "127.0.0.1:1234"}},
		{line: "SMETHOD obfs4 127.0.0.1:1234", ok: true, want: methodLine{addr: "127.0.0.1:1234"}},
		{
			line: "SMETHOD obfs4 [::1]:1234 UNKNOWN:x ARGS:cert=a+/,iat-mode=0", ok: true,
			want: methodLine{"[::1]:1234", arguments{{"cert", "a+/"}, {"iat-mode", "0"}}},
		},
		{line: `SMETHOD obfs4 127.0.0.1:1 ARGS:k=a\,b\=c\\`, ok: true, want: methodLine{"127.0.0.1:1", arguments{{"k", `a,b=c\`}}}},
		{line: "SMETHOD other 127.0.0.1:1234"},
		{line: "SMETHODS DONE"},
		{line: "LOG SEVERITY=notice MESSAGE=hello"},
		{line: "STATUS obfs4 x y"},
		{line: ""},
		{line: "CMETHOD obfs4 socks4 127.0.0.1:1234", ok: true, bad: true},
		{line: "CMETHOD obfs4 socks5", ok: true, bad: true},
		{line: "SMETHOD obfs4 127.0.0.1:1 ARGS:k", ok: true, bad: true},
	} {
		got, ok, err := parseMethodLine(c.line, "obfs4")
		if ok != c.ok || (err != nil) != c.bad {
			t.Errorf("%q: ok %v, error %v; want ok %v, error: %v", c.line, ok, err, c.ok, c.bad)
			continue
		}
		if !c.bad && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %+v, want %+v", c.line, got, c.want)
		}
	}
}

func TestReadHandshake(t *testing.T) {
	client := ptConfig{transport: "obfs4"}
	server := ptConfig{transport: "obfs4", orport: "127.0.0.1:1"}
	for _, c := range []struct {
		name, output string
		config       ptConfig
		addr, bad    string
	}{
		{name: "client", output: "VERSION 1\nCMETHOD obfs4 socks5 127.0.0.1:5\nCMETHODS DONE\nlater", config: client, addr: "127.0.0.1:5"},
		{name: "server", output: "VERSION 1\r\nLOG SEVERITY=notice MESSAGE=x\r\nSMETHOD obfs4 127.0.0.1:6 ARGS:a=b\r\nSMETHODS DONE\r\n", config: server, addr: "127.0.0.1:6"},
		{name: "error line", output: "VERSION 1\nCMETHOD-ERROR obfs4 no such thing\nCMETHODS DONE\n", config: client, bad: "no such thing"},
		{name: "version error", output: "VERSION-ERROR no-version\n", config: client, bad: "VERSION-ERROR"},
		{name: "no version", output: "CMETHOD obfs4 socks5 127.0.0.1:5\nCMETHODS DONE\n", config: client, bad: "VERSION 1"},
		{name: "not announced", output: "VERSION 1\nCMETHOD other socks5 127.0.0.1:5\nCMETHODS DONE\n", config: client, bad: "not announced"},
		{name: "early end", output: "VERSION 1\n", config: client, bad: "ended before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := readHandshake(strings.NewReader(c.output), c.config)
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Fatalf("error %v, want one with %q", err, c.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.addr != c.addr {
				t.Errorf("address %q, want %q", m.addr, c.addr)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("TOR_PT_PROXY", "socks5://127.0.0.1:9")
	env := strings.Join(ptConfig{
		transport: "obfs4", state: "/s", orport: "127.0.0.1:1", options: arguments{{"k", "v"}},
	}.environment(), "\n")
	if strings.Contains(env, "TOR_PT_PROXY") {
		t.Error("a variable of a tor around the harness was passed on")
	}
	for _, want := range []string{
		"TOR_PT_MANAGED_TRANSPORT_VER=1", "TOR_PT_STATE_LOCATION=/s", "TOR_PT_EXIT_ON_STDIN_CLOSE=1",
		"TOR_PT_SERVER_TRANSPORTS=obfs4", "TOR_PT_SERVER_BINDADDR=obfs4-127.0.0.1:0",
		"TOR_PT_ORPORT=127.0.0.1:1", "TOR_PT_SERVER_TRANSPORT_OPTIONS=obfs4:k=v",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
}
