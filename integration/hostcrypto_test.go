package integration

import (
	"fmt"
	"io"
	"net"
	"testing"

	"waterproxy/transport"
)

// TestHostCalls holds how often modules call the host for a MiB that they carry: for each
// of the cipher's frames once, or once for many of them, and else by the buffer, not by
// the frame.
func TestHostCalls(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	for _, test := range []struct {
		transport string
		// At most, for a MiB one way. obfs4 has 740 frames, shadowsocks 64 of two parts,
		// which are sealed many at a time.
		seal, open, other int64
	}{
		{"plain", 0, 0, 200},
		{"obfs4", 800, 800, 200},
		{"shadowsocks", 64, 200, 200},
	} {
		t.Run(test.transport, func(t *testing.T) {
			t.Parallel()
			pair := newModulePair(t, test.transport, transport.Config{})
			near, far := pair.connect(t)
			for seals, way := range []struct { // the client is 0, the server 1
				name     string
				from, to net.Conn
			}{{"up", near, far}, {"down", far, near}} {
				before := pair.stats()
				go func() { _, _ = way.from.Write(make([]byte, size)) }() // an error shows in what arrives
				if n, err := io.CopyN(io.Discard, way.to, size); err != nil {
					t.Fatalf("%s: %d bytes arrived, and %v", way.name, n, err)
				}
				for i, after := range pair.stats() {
					crypto := (after.CryptoCalls - before[i].CryptoCalls) / (size >> 20)
					other := (after.HostCalls-before[i].HostCalls)/(size>>20) - crypto
					says := fmt.Sprintf("%s, %s: %d calls for cryptography and %d others for a MiB", []string{"client", "server"}[i], way.name, crypto, other)
					t.Log(says)
					most := test.open
					if i == seals {
						most = test.seal
					}
					if crypto > most || other > test.other {
						t.Errorf("%s, want at most %d and %d", says, most, test.other)
					}
				}
			}
		})
	}
}

// TestManyKeys has more connections one after another than an instance has keys of the
// host: those of connections that have ended are given back.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	pair := newModulePair(t, "shadowsocks", transport.Config{Instances: 1, MaxConns: 2})
	for i := range 100 {
		near, far := pair.connect(t)
		go func() {
			_, _ = io.WriteString(far, "hello") // an error shows in what arrives
			far.Close()
		}()
		if got, err := io.ReadAll(near); err != nil || string(got) != "hello" {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
		near.Close()
	}
	if got := pair.listener.Stats(); got.Failures != 0 || got.Traps != 0 || got.Refused != 0 {
		t.Errorf("the server has %+v", got)
	}
}
