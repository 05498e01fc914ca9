package self

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// Tor learns from the Extended ORPort who the client is and how it came.
func TestExtORPort_3_1_Commands(t *testing.T) {
	cookie := random(32)
	file := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(file, append([]byte(pttest.CookieHeader), cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	port := pttest.Listen(t)
	env := serverVariables("way", pttest.DeadAddress(t)).With(ptproc.Variables{
		"TOR_PT_EXTENDED_SERVER_PORT": port.Addr().String(),
		"TOR_PT_AUTH_COOKIE_FILE":     file,
	})
	p := launch(t, env, module("way", "plain_v1")...)

	c := pttest.Dial(t, p.Address("way"))
	or := pttest.Accept(t, port)
	tor := &pttest.ExtORPort{Cookie: cookie, Types: "\x01\x02\x00"} // SAFE_COOKIE, and one nobody knows
	if err := tor.Serve(or); err != nil {
		t.Fatal(err)
	}
	want := map[uint16]string{1: c.LocalAddr().String(), 2: "way"} // USERADDR, TRANSPORT
	if !maps.Equal(tor.Commands, want) {
		t.Errorf("the commands are %v, want %v", tor.Commands, want)
	}
	pttest.Echo(t, c, or)

	// What the client sends during the handshake is not lost.
	early := pttest.Dial(t, p.Address("way"))
	if _, err := early.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	or = pttest.Accept(t, port)
	if err := tor.Serve(or); err != nil {
		t.Fatal(err)
	}
	if err := pttest.Exchange(or, []byte("late"), []byte("early")); err != nil {
		t.Error(err)
	}

	for name, tor := range map[string]*pttest.ExtORPort{
		"denies":           {Cookie: cookie, Replies: pttest.Deny},
		"has other cookie": {Cookie: random(31)},
	} {
		refused := pttest.Dial(t, p.Address("way"))
		or := pttest.Accept(t, port)
		if err := tor.Serve(or); (err == nil) != (tor.Replies == pttest.Deny) {
			t.Errorf("tor that %s: %v", name, err)
		}
		pttest.AwaitClose(t, refused)
		pttest.AwaitClose(t, or)
	}

	// The one that was up has not noticed, and a new cookie is read when there is
	// one.
	tor = &pttest.ExtORPort{Cookie: random(32)}
	tor.Cookie[0]++
	if err := os.WriteFile(file, append([]byte(pttest.CookieHeader), tor.Cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	again := pttest.Dial(t, p.Address("way"))
	or = pttest.Accept(t, port)
	if err := tor.Serve(or); err != nil {
		t.Fatal(err)
	}
	pttest.Echo(t, again, or)
}

// An Extended ORPort on another machine is worth a warning: the clients' addresses go
// there in the clear.
func TestExtORPort_4_Warning(t *testing.T) {
	cookie := filepath.Join(t.TempDir(), "cookie")
	for host, warns := range map[string]bool{"192.0.2.1": true, "127.0.0.1": false, "[::1]": false} {
		p := launch(t, serverVariables("t", "127.0.0.1:1").With(ptproc.Variables{
			"TOR_PT_EXTENDED_SERVER_PORT": host + ":1", "TOR_PT_AUTH_COOKIE_FILE": cookie,
		}), module("t", "plain_v1")...)
		p.ready()
		warned := slices.ContainsFunc(p.Stdout.All(), func(line string) bool {
			return strings.HasPrefix(line, "LOG SEVERITY=warning ") && strings.Contains(line, "Extended ORPort is on another machine")
		})
		if warned != warns {
			t.Errorf("%s: warned: %v", host, warned)
		}
	}
}
