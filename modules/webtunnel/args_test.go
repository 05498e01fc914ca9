package main

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"

	"waterproxy/watm"
)

var goodPin = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("p", 32)))

// edit returns arguments with changes: names and values in turn, where the value "-" takes an
// argument away.
func edit(args watm.Args, changes ...string) watm.Args {
	if args = maps.Clone(args); args == nil {
		args = watm.Args{}
	}
	for change := range slices.Chunk(changes, 2) {
		if change[1] == "-" {
			delete(args, change[0])
		} else {
			args[change[0]] = []string{change[1]}
		}
	}
	return args
}

// TestBadArgs: an error about a bridge line names the argument, says what is expected, and
// quotes no value.
func TestBadArgs(t *testing.T) {
	good := watm.Args{"url": {"https://front.example/secret"}, "ver": {"0.0.3"}, "cert": {goodPin}}
	if err := newWebtunnel().CheckArgs(good); err != nil {
		t.Fatal(err)
	}
	const (
		scheme = "argument url does not begin with https:// or http://"
		noHost = "argument url has no host"
		name   = "is not the name of a server"
		list   = "argument servername is not a list of names of servers"
		ver    = "argument ver is not a version that this program knows"
		print  = "argument utls names no known fingerprint"
		addr   = "argument addr is not HOST:PORT"
		port   = "port in the argument url is none"
	)
	for _, row := range []struct {
		changes []string
		want    string
	}{
		{[]string{"url", "-"}, "argument url is missing"},
		{[]string{"url", ""}, scheme},
		{[]string{"url", "front.example/secret"}, scheme},
		{[]string{"url", "wss://front.example/secret"}, scheme},
		{[]string{"url", "https://"}, noHost},
		{[]string{"url", "https:front.example"}, noHost},
		{[]string{"url", "https://:443/secret"}, noHost},
		{[]string{"url", "https://fr\x7font.example/"}, "argument url is not a URL"},
		{[]string{"url", "https://frönt.example/"}, "host in the argument url is not one"},
		{[]string{"url", "https://front.example:/secret"}, port},
		{[]string{"url", "https://front.example:0/secret"}, port},
		{[]string{"url", "https://front.example:65536/secret"}, port},
		{[]string{"ver", ""}, ver},
		{[]string{"ver", "0.1.0"}, ver},
		{[]string{"ver", "0.0."}, ver},
		{[]string{"ver", "0.0.x"}, ver},
		{[]string{"ver", "newest"}, ver},
		{[]string{"utls", "hellonetscape_4"}, print},
		{[]string{"cert", ""}, "argument cert is 0 bytes long, not 32"},
		{[]string{"cert", "AAAA"}, "argument cert is 3 bytes long, not 32"},
		{[]string{"cert", goodPin + "AA"}, "argument cert is not base64"},
		{[]string{"cert", "?" + goodPin[1:]}, "argument cert is not base64"},
		{[]string{"servername", ""}, list},
		{[]string{"servername", "a.example,,b.example"}, list},
		{[]string{"servername", "a.example b.example"}, list},
		{[]string{"servername", "a.example/path"}, list},
		{[]string{"sni-imitation", ""}, "argument sni-imitation " + name},
		{[]string{"sni-imitation", "a.example,b.example"}, "argument sni-imitation " + name},
		{[]string{"cert-domain", "*"}, "argument cert-domain " + name},
		{[]string{"addr", ""}, addr},
		{[]string{"addr", "192.0.2.1"}, addr},
		{[]string{"addr", "192.0.2.1:http"}, addr},
		{[]string{"addr", "2001:db8::1:443"}, addr},
		{[]string{"addr", ":443"}, addr},
	} {
		args := edit(good, row.changes...)
		err := newWebtunnel().CheckArgs(args)
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasSuffix(err.Error(), "; copy the whole bridge line") {
			t.Errorf("%q: %v, want %q", args, err, row.want)
			continue
		}
		if value := row.changes[1]; len(value) > 5 && strings.Contains(err.Error(), value) {
			t.Errorf("%q has the value in it", err)
		}
	}
	for _, name := range []string{"url", "ver", "servername", "addr", "utls", "cert", "sni-imitation", "cert-domain"} {
		args := edit(good)
		args[name] = []string{"one", "two"}
		if err := newWebtunnel().CheckArgs(args); err == nil || !strings.Contains(err.Error(), "argument "+name+" is given more than once") {
			t.Errorf("two values of %s: %v", name, err)
		}
	}
}

// TestBridge: what the arguments mean (the table of all of them).
func TestBridge(t *testing.T) {
	const url = "https://front.example/secret"
	pin, _ := base64.StdEncoding.DecodeString(goodPin)
	for _, row := range []struct {
		args []string
		want bridge
	}{
		{[]string{"url", url}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{host}}},
		{[]string{"url", "http://front.example/a/b?query#fragment"}, bridge{dial: "front.example:80", path: "/a/b", names: []string{host}}},
		{[]string{"url", "https://front.example:8443/a%2Fb%20c"}, bridge{tls: true, dial: "front.example:8443", path: "/a%2Fb%20c", names: []string{host}}},
		{[]string{"url", "HTTPS://front.example"}, bridge{tls: true, dial: "front.example:443", path: "/", names: []string{host}}},
		{[]string{"url", url, "addr", "[2001:db8::1]:444"}, bridge{tls: true, dial: "[2001:db8::1]:444", path: "/secret", names: []string{host}}},
		{[]string{"url", url, "servername", "a.example, b.example"}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{"a.example", "b.example"}}},
		{[]string{"url", url, "sni-imitation", "a.example"}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{"a.example"}, verify: host}},
		{[]string{"url", url, "sni-imitation", "a.example", "servername", "b.example", "cert-domain", "c.example"}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{"b.example"}, verify: "c.example"}},
		{[]string{"url", url, "cert", goodPin}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{host}, pin: pin}},
		{[]string{"url", url, "cert", strings.TrimRight(goodPin, "=")}, bridge{tls: true, dial: "front.example:443", path: "/secret", names: []string{host}, pin: pin}},
	} {
		got, err := parseBridge(edit(nil, append([]string{"ver", "0.0.3"}, row.args...)...))
		if err != nil {
			t.Errorf("%q: %v", row.args, err)
			continue
		}
		row.want.host = host
		if got.tls != row.want.tls || got.dial != row.want.dial || got.host != row.want.host || got.path != row.want.path ||
			!slices.Equal(got.names, row.want.names) || got.verify != row.want.verify || !slices.Equal(got.pin, row.want.pin) {
			t.Errorf("%q: %+v, want %+v", row.args, got, row.want)
		}
		if got.fingerprint != fingerprints["hellochrome_auto"] {
			t.Errorf("%q: it looks like another client than Chrome", row.args)
		}
	}
}

// TestServerArgs: the placeholder is that of the standalone server.
func TestServerArgs(t *testing.T) {
	const url = "http://203.0.113.5:8440/secret-standalone"
	got, err := checkServerArgs(watm.Args{"url": {url}, "other": {"x"}})
	if want := "[2001:db8:ce26:6424:c303:4bbc:c852:d0bc]:443"; err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for args, want := range map[string]string{
		"-": "argument url is missing", "": "does not begin", "https://": "no host",
	} {
		_, err := checkServerArgs(edit(nil, "url", args))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; the line ServerTransportOptions") {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

// TestServerNames: the first name is a random one, the next one comes when it has failed, and
// the one that works is kept, for each bridge.
func TestServerNames(t *testing.T) {
	b := &bridge{dial: "a.example:443", names: []string{"one", "two", "three"}}
	other := &bridge{dial: "b.example:443", names: b.names}
	first := map[string]bool{}
	for range 1000 {
		var s serverNames
		first[s.current(b)] = true
	}
	if len(first) != len(b.names) {
		t.Errorf("it begins with %v", first)
	}
	var s serverNames
	name, kept := s.current(b), s.current(other)
	for i := range 2 * len(b.names) {
		if got := s.current(b); got != name {
			t.Fatalf("%d: %s, want %s again", i, got, name)
		}
		s.failed(b, name)
		next := b.names[(slices.Index(b.names, name)+1)%len(b.names)]
		s.failed(b, name) // another connection that failed with it
		if got := s.current(b); got != next {
			t.Fatalf("%d: after %s comes %s, want %s", i, name, got, next)
		}
		name = next
	}
	if s.current(other) != kept {
		t.Error("another bridge has got another name")
	}
}
