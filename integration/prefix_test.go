package integration

import (
	"io"
	"net"
	"strings"
	"testing"

	"waterproxy/internal/examine/rules"
)

// TestShadowsocksPrefix has a client with a prefix= in its bridge line at servers that know
// of none: shadowsocks-libev, sing-shadowsocks for the 2022 edition, and ours. What it sends
// first begins with the prefix and passes the published rules.
func TestShadowsocksPrefix(t *testing.T) {
	t.Parallel()
	common := newShadowsocksLab(t)
	for cipher, key := range map[string]string{ // "" is the common password
		"chacha20-ietf-poly1305":        "",
		"aes-128-gcm":                   "",
		"2022-blake3-aes-128-gcm":       "AQIDBAUGBwgJCgsMDQ4PEA",
		"2022-blake3-chacha20-poly1305": "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
	} {
		lab := *common
		if key != "" {
			lab.password = key
		}
		check := func(t *testing.T, server string, origin *net.TCPListener) {
			for prefix, want := range map[string]string{"POST%20": "POST ", "%16%03%01%02": "\x16\x03\x01\x02", "%p%p%p%p%p%p": ""} {
				relay := startRecorder(t, server)
				near := lab.connect(t, relay.address, cipher, "target="+origin.Addr().String(), "prefix="+prefix)
				if _, err := near.Write(noise(514)); err != nil {
					t.Fatal(err)
				}
				far := acceptTCP(t, origin)
				if _, err := io.ReadFull(far, make([]byte, 514)); err != nil {
					t.Fatal(err)
				}
				if sent := relay.sent(); !strings.HasPrefix(string(sent), want) || len(rules.Exemptions(sent)) == 0 {
					t.Errorf("%s: the client's first bytes are %q", prefix, sent[:min(len(sent), 8)])
				}
				if _, err := io.WriteString(far, "answer"); err != nil {
					t.Fatal(err)
				}
				expect(t, near, "answer")
				checkClose(t, near, far)
			}
		}
		t.Run("waterproxy to another, "+cipher, func(t *testing.T) {
			t.Parallel()
			origin := listenLoopback(t).(*net.TCPListener)
			if key == "" {
				check(t, startSSServer(t, cipher), origin)
			} else {
				check(t, startSS2022(t, cipher, key, origin.Addr().String(), "-server"), origin)
			}
		})
		t.Run("waterproxy to waterproxy, "+cipher, func(t *testing.T) {
			t.Parallel()
			server := lab.server(t, cipher)
			check(t, server.address, server.orPort)
		})
	}
}

// TestObfs4Prefix has a bridge with two prefixes. A client of ours begins with the one in
// its line; obfs4proxy and lyrebird, which know of none, get in with the same line.
func TestObfs4Prefix(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	server := lab.server(t, ours, lab.state(t), obfs4Keys+";prefix=GET /%p%p%p;prefix=POST%20")
	args := server.bridgeArgs()
	const published = ";prefix=GET%20%2F%p%p%p"
	if !strings.HasSuffix(args, published) {
		t.Fatalf("it publishes %s", args)
	}
	for _, test := range []struct{ program, args, begin string }{
		{ours, args, "GET /"},
		{ours, strings.Replace(args, published, ";prefix=POST%20", 1), "POST "}, // of an older line
		{ours, strings.Replace(args, published, "", 1), ""},
		{theirs, args, ""},
		{newer, args, ""},
	} {
		t.Run(strings.TrimSpace(test.program+" "+test.begin), func(t *testing.T) {
			client := lab.client(t, test.program)
			relay := startRecorder(t, server.address())
			conn, err := client.connect(relay.address, test.args)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			server.accept(t).Close()
			sent := relay.sent()
			if !strings.HasPrefix(string(sent), test.begin) || test.begin != "" && len(rules.Exemptions(sent[:min(len(sent), 1448)])) == 0 {
				t.Errorf("the client's first bytes are %q", sent[:8])
			}
			obfs4Link{client: client, server: server, args: test.args}.exchange(t, 100_000)
		})
	}
}
