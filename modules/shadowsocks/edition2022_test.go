package main

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
	"testing"
	"time"
)

// A prober of a server of the 2022 edition sees the same silence, also one that has the key
// or a recording, with a clock that is wrong.
func TestSilence2022(t *testing.T) {
	m := &methods[3]
	a := args("password", passwordOf(m), "cipher", m.name, "target", "192.0.2.7:443")
	s := newServer(t, a)
	near, far := wires(t)
	genuine := firstBytes(t, a)
	if _, err := near.Write(genuine); err != nil {
		t.Fatal(err)
	}
	answer := &writes{Conn: far}
	server := serve(t, s, answer)
	if _, err := server.Write([]byte{1, 192, 0, 2, 7, 1, 187}); err != nil {
		t.Fatal(err)
	}

	address, err := clientAddress(a)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	request := func(kind byte, at time.Time, chunk []byte) []byte {
		return sealed(t, s.key, fixedHeader(kind, at, nil, len(chunk)), chunk)
	}
	padded := func(n uint16, padding int) []byte {
		b := binary.BigEndian.AppendUint16(slices.Clone(address), n)
		return append(b, make([]byte, padding)...)
	}
	good := variableHeader(address, 0)
	for name, chunk := range map[string][]byte{
		"as it is":     good,
		"with payload": append(padded(0, 0), "hello"...),
		"much padding": padded(maxPadding, maxPadding),
	} {
		near, far := wires(t)
		if _, err := near.Write(request(kindRequest, now.Add(-20*time.Second), chunk)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.handshake(far); err != nil {
			t.Errorf("a good request, %s: %v", name, err)
		}
	}

	s.silence = 300 * time.Millisecond // of the probes
	probeAll(t, s, map[string][]byte{
		"nothing":                        nil,
		"a salt":                         random(16),
		"much":                           random(300 << 10),
		"a good header alone":            firstBytes(t, a)[:16+requestHeader+overhead],
		"another key":                    firstBytes(t, args("password", "AAAAAAAAAAAAAAAAAAAAAA", "cipher", m.name)),
		"another edition":                firstBytes(t, args("password", password, "cipher", "aes-128-gcm")),
		"a clock ahead":                  request(kindRequest, now.Add(40*time.Second), good),
		"a clock behind":                 request(kindRequest, now.Add(-40*time.Second), good),
		"the end of time":                request(kindRequest, time.Unix(-1, 0), good),
		"before all time":                request(kindRequest, time.Unix(math.MinInt64, 0), good),
		"another kind":                   request(kindResponse, now, good),
		"neither padding nor payload":    request(kindRequest, now, padded(0, 0)),
		"more padding than there may be": request(kindRequest, now, padded(maxPadding+1, maxPadding+1)),
		"less padding than it says":      request(kindRequest, now, padded(5, 4)),
		"no whole address":               request(kindRequest, now, address[:3]),
		"an empty header":                request(kindRequest, now, nil),
		"a client's replay":              genuine,
		"the server's own stream":        answer.all[0],
	})
}

// sealed is a stream of messages.
func sealed(t *testing.T, key *masterKey, messages ...[]byte) []byte {
	t.Helper()
	out := newSalt(key, nil)
	cipher, err := key.session(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range messages {
		var nonce [nonceSize]byte
		out = cipher.aead.Seal(out, cipher.nonce(nonce[:]), message, nil)
	}
	return out
}

// A client takes no answer but the one to its own request, of the right time.
func TestForgedResponse(t *testing.T) {
	m := &methods[4]
	a := args("password", passwordOf(m), "cipher", m.name)
	now := time.Now()
	asIs := func(own []byte) []byte { return own }
	for name, answer := range map[string]struct {
		kind byte
		at   time.Time
		salt func(own []byte) []byte
		ok   bool
	}{
		"good":             {kindResponse, now, asIs, true},
		"of another":       {kindResponse, now, func([]byte) []byte { return random(m.keySize) }, false},
		"a clock behind":   {kindResponse, now.Add(-40 * time.Second), asIs, false},
		"a request's kind": {kindRequest, now, asIs, false},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := wires(t)
			client := newClient(t, near, a)
			if _, err := io.WriteString(client, "hello"); err != nil {
				t.Fatal(err)
			}
			salt := make([]byte, m.keySize)
			if _, err := io.ReadFull(far, salt); err != nil {
				t.Fatal(err)
			}
			header := fixedHeader(answer.kind, answer.at, answer.salt(salt), len("welcome"))
			if _, err := far.Write(sealed(t, client.(*conn).out.key, header, []byte("welcome"))); err != nil {
				t.Fatal(err)
			}
			if err := far.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(client)
			if answer.ok != (err == nil && string(got) == "welcome") || !answer.ok && len(got) > 0 {
				t.Errorf("the client got %q, %v", got, err)
			}
		})
	}
}
