package main

import (
	"strings"

	"waterproxy/internal/webfront"
)

// subject is something that is examined.
type subject struct {
	name, title string
	args        []string // of waterproxy examine
}

// obfs4Keys are the same in all programs, so that the delay which is drawn from them, 23
// seconds, is the same.
var obfs4Keys = []string{
	"-option", "node-id=0102030405060708090a0b0c0d0e0f1011121314",
	"-option", "private-key=2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40",
	"-option", "drbg-seed=736565642031300000000000000000000000000000000000",
	"-option", "iat-mode=0",
}

// lyrebird is where make peers puts it, and the server of WebTunnel.
const (
	lyrebird        = "integration/peers/built/lyrebird"
	webtunnelServer = "integration/peers/built/webtunnel-server"
)

func subjects(f *front) []subject {
	with := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	pair := func(client, server, transport string) []string {
		return []string{"-client", f.absolute(client), "-server", f.absolute(server), "-transport", transport}
	}
	// Clients go to the recorder, and from there on to where a web server listens.
	web := []string{
		"-option", "url=https://" + webfront.Name + "/" + f.path, "-arg", "addr={recorder}", "-arg", "cert=" + f.pin,
		"-bind", f.backend,
	}
	return []subject{
		{"plain", "plain", []string{"plain"}},
		{"reverse", "reverse", []string{"reverse"}},
		{"mux", "mux", []string{"mux"}},
		{"obfs4", "obfs4", with(obfs4Keys, []string{"obfs4"})},
		{"obfs4-prefix", "obfs4, `prefix=GET%20/%p%p%p%p`", with(obfs4Keys, []string{"-option", "prefix=GET%20/%p%p%p%p", "obfs4"})},
		{"obfs4proxy", "obfs4proxy", with(obfs4Keys, pair("obfs4proxy", "obfs4proxy", "obfs4"))},
		{"lyrebird", "lyrebird", with(obfs4Keys, pair(lyrebird, lyrebird, "obfs4"))},
		{"shadowsocks", "shadowsocks", []string{"shadowsocks"}},
		{"shadowsocks-prefix", "shadowsocks, `prefix=POST%20`", []string{"-option", "prefix=POST%20", "shadowsocks"}},
		{"webtunnel", "webtunnel, its own web server", with(web, []string{"-modules", f.settings, "-front", f.backend, "webtunnel"})},
		{"webtunnel-nginx", "webtunnel behind nginx", with(web, []string{"-front", f.address, "webtunnel"})},
		{"webtunnel-real", "lyrebird and WebTunnel's server behind nginx", with(web, pair(lyrebird, webtunnelServer, "webtunnel"), []string{"-front", f.address})},
	}
}

// cell is a text in a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
