package self

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// argtest is the test module that shows which arguments it has.
const argtest = "go/argtest"

// arguments returns those that an argtest at the other end of a connection sends.
func arguments(t *testing.T, c io.Reader) string {
	t.Helper()
	var size uint16
	if err := binary.Read(c, binary.BigEndian, &size); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(c, text); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sendArguments does what an argtest does as a client.
func sendArguments(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)); err != nil {
		t.Fatal(err)
	}
}

// bothWays runs a test with flags for a transport t, first with one instance of
// argtest that all connections share, then with one for each.
func bothWays(t *testing.T, test func(t *testing.T, flags []string, shared bool)) {
	for _, instances := range []string{"1", "each"} {
		t.Run(instances, func(t *testing.T) {
			test(t, append(module("t", argtest), "-module-instances", "t="+instances), instances == "1")
		})
	}
}

// The arguments of a bridge line come with the SOCKS request. They are those of
// that connection only.
func TestPTSpec_3_5_Arguments(t *testing.T) {
	bothWays(t, func(t *testing.T, flags []string, _ bool) {
		p := launch(t, clientVariables("t"), flags...)
		l := pttest.Listen(t)
		type connection struct{ near, far net.Conn }
		var up []connection
		for args, want := range map[string]string{
			"key=v":                           `key=v`,
			`key=a\;b\=c\\,;iat-mode=0`:       `iat-mode=0;key=a\;b=c\\,`,
			"key=1;other=2;key=3;key=":        `key=1;key=3;key=;other=2`,
			`\k\e\y=\v;a\=b=`:                 `a\=b=;key=v`,
			"key=\xff\x01é":                   "key=\xff\x01é",
			"key=" + strings.Repeat("x", 251): "key=" + strings.Repeat("x", 251),
			"key=" + strings.Repeat("x", 506): "key=" + strings.Repeat("x", 506),
		} {
			near, code := pttest.Ask(t, p.Address("t"), l.Addr().String(), args)
			if code != pttest.ReplyGranted {
				t.Fatalf("%q: reply %d", args, code)
			}
			far := pttest.Accept(t, l)
			if got := arguments(t, far); got != want {
				t.Errorf("%q arrived as %q, want %q", args, got, want)
			}
			up = append(up, connection{near, far})
		}
		for _, args := range []string{"other=1", ""} {
			if _, code := pttest.Ask(t, p.Address("t"), l.Addr().String(), args); code != pttest.ReplyFailure {
				t.Errorf("reply %d to %q, which the module refuses; want %d", code, args, pttest.ReplyFailure)
			}
			pttest.AwaitClose(t, pttest.Accept(t, l))
		}
		p.Line(`^LOG SEVERITY=warning MESSAGE=".*cannot connect.*the module says: the bridge line has no key`)
		for _, c := range up {
			pttest.Echo(t, c.near, c.far)
		}
	})
}

// withOptions is serverVariables for a transport t with ServerTransportOptions.
func withOptions(orPort, options string) ptproc.Variables {
	return serverVariables("t", orPort).With(ptproc.Variables{"TOR_PT_SERVER_TRANSPORT_OPTIONS": options})
}

// A module knows the options that the bridge's operator has set, and what it
// publishes is in the line from which tor makes the bridge line.
func TestPTSpec_3_2_3_Options(t *testing.T) {
	bothWays(t, func(t *testing.T, flags []string, _ bool) {
		client := launch(t, clientVariables("t"), flags...)
		for _, test := range []struct{ options, published, client string }{
			{`t:key=secret`, `key=secret`, `key=secret`},
			{`other:key=no;t:key=a\:b\;c\=d\\e,f;t:mode=0`, `key=a:b;c\=d\\e\,f,mode=0`, `key=a:b\;c=d\\e,f`},
			{`t:key=1;t:x\=y=2;t:key=3`, `key=1,key=3,x\=y=2`, `key=1`},
		} {
			orPort := pttest.Listen(t)
			server := launch(t, withOptions(orPort.Addr().String(), test.options), flags...)
			if got := server.Line(`^SMETHOD t 127\.0\.0\.1:\d+ ARGS:(.*)$`)[1]; got != test.published {
				t.Errorf("options %s are published as %s, want %s", test.options, got, test.published)
			}
			near, code := pttest.Ask(t, client.Address("t"), server.Address("t"), test.client)
			if code != pttest.ReplyGranted {
				t.Fatalf("reply %d", code)
			}
			pttest.Echo(t, near, pttest.Accept(t, orPort))
			// Nobody gets to tor without what was published.
			probe := pttest.Dial(t, server.Address("t"))
			sendArguments(t, probe, "key=guessed")
			pttest.AwaitClose(t, probe)
			server.Line(`^LOG SEVERITY=info MESSAGE=".*the module says: the client has another key`)
		}
	})
}

// A module that does not start, or publishes what no line can hold, is an error for
// its transport, with the reason, and for no other.
func TestServerArgumentsRefused(t *testing.T) {
	bothWays(t, func(t *testing.T, flags []string, _ bool) {
		flags = append(flags, module("other", "plain_v1")...)
		for _, test := range []struct{ options, reason string }{
			{"t:fail=two\nlines", `the module says: two lines$`},
			{``, `the module says: it has neither a key nor a state directory$`},
			{"t:key=a\nSMETHODS DONE", `not printable ASCII`},
			{`t:key=é`, `not printable ASCII`},
		} {
			orPort := pttest.Listen(t)
			p := launch(t, withOptions(orPort.Addr().String(), test.options).With(ptproc.Variables{
				"TOR_PT_SERVER_TRANSPORTS": "t,other",
				"TOR_PT_SERVER_BINDADDR":   "t-127.0.0.1:0,other-127.0.0.1:0",
			}), flags...)
			pttest.Echo(t, pttest.Dial(t, p.Address("other")), pttest.Accept(t, orPort))
			p.Line(`^SMETHOD-ERROR t .*` + test.reason)
		}
	})
}

// A module that crashes takes with it the connections of its instance: all, or one.
// In both cases the next connection works.
func TestCrash(t *testing.T) {
	bothWays(t, func(t *testing.T, flags []string, shared bool) {
		orPort := pttest.Listen(t)
		server := launch(t, withOptions(orPort.Addr().String(), "t:key=1"), flags...)
		client := launch(t, clientVariables("t"), flags...)
		connect := func() (near, far net.Conn) {
			near, code := pttest.Ask(t, client.Address("t"), server.Address("t"), "key=1")
			if code != pttest.ReplyGranted {
				t.Fatalf("reply %d", code)
			}
			far = pttest.Accept(t, orPort)
			pttest.Echo(t, near, far)
			return near, far
		}
		// The client's part of the set-up is done when the server crashes.
		for who, reply := range map[string]byte{"1": pttest.ReplyFailure, "server": pttest.ReplyGranted} {
			near, far := connect()
			c, code := pttest.Ask(t, client.Address("t"), server.Address("t"), "key=1;crash="+who)
			if code != reply {
				t.Errorf("crash=%s: reply %d, want %d", who, code, reply)
			}
			pttest.AwaitClose(t, c)
			if shared {
				pttest.AwaitClose(t, near)
				pttest.AwaitClose(t, far)
			} else {
				pttest.Echo(t, near, far)
			}
			connect()
		}
	})
}
