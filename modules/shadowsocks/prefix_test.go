package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	library "github.com/Jigsaw-Code/outline-sdk/transport/shadowsocks"

	"waterproxy/internal/examine/rules"
	"waterproxy/watm"
)

// firstPacket is what fits the first packet of a connection over Ethernet.
const firstPacket = 1448

// exempt returns how many of 200 connections' first packets pass the published rules, and
// how many by which.
func exempt(t *testing.T, a watm.Args, payload int) (all int, by map[rules.Rule]int) {
	t.Helper()
	by = map[rules.Rule]int{}
	near, far := wires(t)
	go func() { _, _ = io.Copy(io.Discard, far) }() // it ends with the test
	for range 200 {
		recorded := &writes{Conn: near}
		client := newClient(t, recorded, a)
		client.(*conn).out.timer.Stop() // as in TestFirstWrite
		if _, err := client.Write(random(payload)); err != nil {
			t.Fatal(err)
		}
		first := recorded.all[0]
		passes := rules.Exemptions(first[:min(len(first), firstPacket)])
		if len(passes) > 0 {
			all++
		}
		for _, rule := range passes {
			by[rule]++
		}
	}
	return all, by
}

// Without a prefix hardly a first packet passes the rules for fully encrypted traffic, and
// with one each does, by the rule that it is made for: of 514 bytes as of tor's first cell,
// and of all that one packet has.
func TestPrefixExempts(t *testing.T) {
	eachMethod(t, func(t *testing.T, m *method, a watm.Args) {
		for _, payload := range []int{514, 4096} {
			// Of random payloads of these lengths 0.35 % at most are exempt: more than 12 of 200
			// come once in 10^12 tests.
			if all, by := exempt(t, a, payload); all > 12 {
				t.Errorf("without a prefix, %d bytes of payload: %d of 200 exempt, by %v", payload, all, by)
			}
			for value, rule := range map[string]rules.Rule{
				"POST%20": rules.KnownProtocol, "%16%03%01%02": rules.KnownProtocol,
				"%p%p%p%p%p%p": rules.PrintableSix, "GET%20/%p": rules.PrintableSix,
			} {
				a["prefix"] = []string{value}
				if all, by := exempt(t, a, payload); all != 200 || by[rule] != 200 {
					t.Errorf("%s, %d bytes of payload: %d of 200 exempt, by %v, want all by %s", value, payload, all, by, rule)
				}
			}
			delete(a, "prefix")
		}
	})
}

// What is random in a salt differs in each connection, also beside and within a prefix.
func TestPrefixedSalts(t *testing.T) {
	a := args("password", password, "prefix", "GET%20/%p%p%p")
	seen := map[string]bool{}
	const n = 1000
	for range n {
		salt := firstBytes(t, a)[:32]
		if !bytes.HasPrefix(salt, []byte("GET /")) {
			t.Fatalf("a salt begins with %q", salt[:8])
		}
		seen[string(salt)], seen[string(salt[8:])], seen[string(salt[5:8])] = true, true, true
	}
	if len(seen) < 3*n-10 { // of 95^3 triples some come twice
		t.Errorf("of %d salts, their ends and their drawn bytes only %d differ", n, len(seen))
	}
}

// Both ways at once between our end and Outline's, with its salts that have a prefix or with
// ours.
func TestPrefixWithOutline(t *testing.T) {
	for i := range methods {
		m := &methods[i]
		if m.edition2022 { // Outline does not have it; the integration test has another peer
			continue
		}
		key, err := library.NewEncryptionKey(m.name, password)
		if err != nil {
			t.Fatal(err)
		}
		a := args("password", password, "cipher", m.name, "target", "192.0.2.7:443")
		theirSide := func(wire net.Conn, salts library.SaltGenerator) io.ReadWriter {
			out := library.NewWriter(wire, key)
			out.SetSaltGenerator(salts)
			return struct {
				io.Reader
				io.Writer
			}{library.NewReader(wire, key), out}
		}
		t.Run("our client, "+m.name, func(t *testing.T) {
			near, far := wires(t)
			a := args("password", password, "cipher", m.name, "target", "192.0.2.7:443", "prefix", "POST%20")
			recorded := &writes{Conn: near}
			client := newClient(t, recorded, a)
			client.(*conn).out.timer.Stop() // as in TestFirstWrite
			server := theirSide(far, library.RandomSaltGenerator)
			talk(t, client, server, "\x01\xc0\x00\x02\x07\x01\xbb")
			talk(t, server, client, "")
			if !bytes.HasPrefix(recorded.all[0], []byte("POST ")) {
				t.Errorf("the client's first bytes are %q", recorded.all[0][:8])
			}
		})
		t.Run("our server, "+m.name, func(t *testing.T) {
			near, far := wires(t)
			client := theirSide(near, library.NewPrefixSaltGenerator([]byte("POST ")))
			if _, err := io.WriteString(client, "\x01\xc0\x00\x02\x07\x01\xbb"); err != nil {
				t.Fatal(err)
			}
			server := serve(t, newServer(t, a), far)
			talk(t, client, server, "")
			talk(t, server, client, "")
		})
	}
}

// talk sends from one side to the other, which reads a header before what is sent.
func talk(t *testing.T, from io.Writer, to io.Reader, header string) {
	t.Helper()
	what := random(100_000)
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(what)
		sent <- err
	}()
	got := make([]byte, len(header)+len(what))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != header+string(what) {
		t.Error(fmt.Errorf("what came is not what was sent: %w", err))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
