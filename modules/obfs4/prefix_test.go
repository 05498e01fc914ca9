package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/examine/rules"
	"waterproxy/modules/internal/prefix"
	"waterproxy/watm"
)

// goodPrefixes are fit for a bridge line, by the rule that lets them pass.
var goodPrefixes = map[string]rules.Rule{
	"GET%20%2F%p%p%p":        rules.PrintableSix,
	"POST%20":                rules.KnownProtocol,
	"%16%03%01%02%00":        rules.KnownProtocol,
	strings.Repeat("%p", 23): rules.PrintableRun,
}

// newPrefix reads a good one.
func newPrefix(t *testing.T, text string) prefix.Prefix {
	t.Helper()
	p, err := prefix.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPrefixExempts: without a prefix hardly a first packet passes the published rules for
// fully encrypted traffic, and with one each does.
func TestPrefixExempts(t *testing.T) {
	st, err := keepState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	exempt := func(p prefix.Prefix) (all int, by map[rules.Rule]int) {
		by = map[rules.Rule]int{}
		for range 200 {
			h := &clientHandshake{bridge: &st.bridge, prefix: p, session: sessionKeysAhead.take()}
			message := h.message(time.Now())
			if len(message) > maxHandshake || len(message) < minClientHandshake+minClientPadding {
				t.Errorf("a handshake is %d bytes long", len(message))
			}
			const packet = 1448 // over Ethernet
			passes := rules.Exemptions(message[:min(len(message), packet)])
			if len(passes) > 0 {
				all++
			}
			for _, rule := range passes {
				by[rule]++
			}
		}
		return all, by
	}
	// Of random payloads of these lengths 0.35 % at most are exempt: more than 12 of 200
	// come once in 10^12 tests.
	if all, by := exempt(nil); all > 12 {
		t.Errorf("without a prefix: %d of 200 exempt, by %v", all, by)
	}
	for text, rule := range goodPrefixes {
		if all, by := exempt(newPrefix(t, text)); all != 200 || by[rule] != 200 {
			t.Errorf("%s: %d of 200 exempt, by %v, want all by %s", text, all, by, rule)
		}
	}
}

// recorder keeps each write of a client.
type recorder struct {
	watm.Conn
	all [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.all = append(r.all, bytes.Clone(p))
	return r.Conn.Write(p)
}

// TestPrefixedHandshakes: a server with prefixes takes clients with each of them, and those
// without one, ours and the library's. A client writes its prefix with the handshake.
func TestPrefixedHandshakes(t *testing.T) {
	var all []string
	for text := range goodPrefixes {
		all = append(all, text)
	}
	server, published := ourServer(t, "0", all...)
	if got := published["prefix"]; len(got) != 1 || newPrefix(t, got[0]).String() != newPrefix(t, all[0]).String() {
		t.Errorf("it publishes the prefixes %q, want the first of %q", got, all)
	}
	with := func(text string) watm.Args { return edit(published, "prefix", text) }
	clients := map[string]side{
		"ours without a prefix": ourClient(edit(published, "prefix", "-")),
		"the library's":         libraryClient(published), // it ignores what it does not know
	}
	for _, text := range all {
		clients[text] = func(t *testing.T, raw *net.TCPConn) (net.Conn, error) {
			wire := &recorder{Conn: raw}
			c, err := new(obfs4).Client(t.Context(), wire, with(text))
			if len(wire.all) != 1 || !newPrefix(t, text).Match(wire.all[0]) || len(wire.all[0]) < minClientHandshake {
				t.Errorf("%s: the client wrote %d times", text, len(wire.all))
			}
			return c, err
		}
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				near, far := pair(t, client, server)
				exchange(t, near, far, []byte("hello"), 5)
				exchange(t, far, near, noise(t, 5000), 5000)
				near.Close()
				far.Close()
			}
		})
	}
}

// onlyWrite ends its direction after a write: the other side need not wait for more.
type onlyWrite struct{ watm.Conn }

func (o onlyWrite) Write(p []byte) (int, error) {
	n, err := o.Conn.Write(p)
	return n, errors.Join(err, o.CloseWrite())
}

// TestUnknownPrefix: a client with a prefix that the server does not have gets no answer,
// and an error.
func TestUnknownPrefix(t *testing.T) {
	for _, prefixes := range [][]string{nil, {"POST%20"}} {
		server, args := ourServer(t, "0", prefixes...)
		near, far := rawPair(t)
		var serving sync.WaitGroup
		serving.Go(func() {
			if _, err := server(t, far); err == nil {
				t.Error("the server takes it for a client")
			}
			far.Close() // as the SDK does
		})
		if _, err := new(obfs4).Client(t.Context(), onlyWrite{near}, edit(args, "prefix", "PUT%20")); err == nil {
			t.Error("the client is connected")
		}
		near.Close()
		serving.Wait()
	}
}

// TestPrefixAndMAC: a handshake is good with the prefix that it was sent with, once; and up
// to its last byte, or without being one up to the most bytes that one has, it is waited for.
func TestPrefixAndMAC(t *testing.T) {
	st, err := keepState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	get, post := newPrefix(t, "GET%20/%p%p"), newPrefix(t, "POST%20")
	now := time.Now()
	replays := newReplayFilter()
	asked := func(message []byte) error {
		h := &serverHandshake{bridge: &st.bridge, private: &st.private, prefixes: []prefix.Prefix{get, post}, replays: replays, session: newSessionKey()}
		return h.asked(message, now)
	}
	client := &clientHandshake{bridge: &st.bridge, prefix: get, session: newSessionKey()}
	message := client.message(now)
	bare := message[len(get):]
	drawnAnew := bytes.Clone(message)
	drawnAnew[len(get)-1] ^= 1
	for name, changed := range map[string][]byte{
		"no prefix":                    bare,
		"another prefix":               append([]byte("POST "), bare...),
		"another byte that is drawn":   drawnAnew,
		"a prefix twice":               append(bytes.Clone(message[:len(get)]), message...),
		"a byte more":                  append(bytes.Clone(message), 0),
		"a prefix and noise":           append([]byte("POST "), noise(t, maxHandshake-5)...),
		"a prefix and a whole message": append([]byte("POST "), (&clientHandshake{bridge: &st.bridge, session: newSessionKey()}).message(now)...),
	} {
		if err := asked(changed); err != errHandshake && (err != errMore || len(changed) >= maxHandshake) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, 1, len(get), 140, 141, 145, 150, len(message) / 2, len(message) - 1} {
		if err := asked(message[:n]); err != errMore {
			t.Errorf("after %d of %d bytes: %v", n, len(message), err)
		}
	}
	if err := asked(append([]byte("POST "), noise(t, maxHandshake-6)...)); err != errMore {
		t.Errorf("a prefix and noise, a byte less than a handshake has: %v", err)
	}
	if err := asked(message); err != nil {
		t.Errorf("the first time: %v", err)
	}
	if err := asked(message); err != errReplay {
		t.Errorf("the second time: %v", err)
	}
}

// TestPrefixInBridgeLine: the file for the operator has the prefix, and the state has not.
func TestPrefixInBridgeLine(t *testing.T) {
	dir := t.TempDir()
	if _, err := keepState(dir, watm.Args{"prefix": {"PUT /", "POST%20"}}); err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(filepath.Join(dir, bridgeFile))
	if err != nil || !strings.HasSuffix(string(line), " iat-mode=0 prefix=PUT%20%2F\n") {
		t.Errorf("%s, %v", line, err)
	}
	st, err := keepState(dir, nil)
	if err != nil || st.prefixes != nil || len(st.clientArgs()["prefix"]) > 0 {
		t.Errorf("after a start without: %v, %v", st.prefixes, err)
	}
}
