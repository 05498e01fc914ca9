package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	utls "github.com/refraction-networking/utls"

	"waterproxy/internal/clienthello"
)

// random returns so many bytes.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// exchange sends different bytes both ways at once, each with its end, and checks that all
// arrive. One side is a conn of this package, the other one that of Go's TLS.
func exchange(t *testing.T, near, far net.Conn, size int) {
	t.Helper()
	type closeWriter interface{ CloseWrite() error }
	up, down := random(1, size), random(2, size+size/3)
	for _, side := range []struct {
		conn net.Conn
		text []byte
	}{{near, up}, {far, down}} {
		go func() {
			if _, err := side.conn.Write(side.text); err != nil {
				t.Error(err)
			}
			if err := side.conn.(closeWriter).CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
	}
	got := make(chan []byte)
	go func() {
		b, err := io.ReadAll(far)
		if err != nil {
			t.Errorf("up: %v", err)
		}
		got <- b
	}()
	if b, err := io.ReadAll(near); err != nil || !bytes.Equal(b, down) {
		t.Errorf("down: %d of %d bytes arrived, or others (%v)", len(b), len(down), err)
	}
	if b := <-got; !bytes.Equal(b, up) {
		t.Errorf("up: %d of %d bytes arrived, or others", len(b), len(up))
	}
}

// TestSuites: the record layer is that of Go's TLS, with every cipher of both versions, and
// so is what stays with the library.
func TestSuites(t *testing.T) {
	for _, row := range []struct {
		name    string
		version uint16
		suite   uint16
		own     bool
	}{
		{"1.3 AES-128-GCM", tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256, true},
		{"1.3 AES-256-GCM", tls.VersionTLS13, tls.TLS_AES_256_GCM_SHA384, true},
		{"1.3 ChaCha20", tls.VersionTLS13, tls.TLS_CHACHA20_POLY1305_SHA256, true},
		{"1.2 AES-128-GCM", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, true},
		{"1.2 AES-256-GCM", tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true},
		{"1.2 ChaCha20", tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, true},
		{"1.2 AES-128-GCM, RSA", tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, true},
		{"1.2 AES-128-CBC", tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cert := certificate(t, ecdsaKey(), nil)
			if row.suite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
				cert = certificate(t, rsaKey(), nil)
			}
			config := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: row.version, CipherSuites: []uint16{row.suite}}
			served := make(chan *tls.Conn)
			done := t.Context().Done()
			dial := listen(t, func(conn net.Conn) {
				far := tls.Server(conn, config)
				if err := far.Handshake(); err != nil {
					t.Error(err)
				}
				if _, err := answer(far); err != nil {
					t.Error(err)
				}
				served <- far
				<-done
			})
			client := newWebtunnel()
			b, err := parseBridge(bridgeArgs(cert))
			if err != nil {
				t.Fatal(err)
			}
			b.fingerprint = &fingerprint{spec: func() (*utls.ClientHelloSpec, error) {
				spec, err := clienthello.Chrome156WebSocket()
				spec.CipherSuites = []uint16{row.suite}
				return spec, err
			}}
			wire, err := dial(t.Context(), "", "", false)
			if err != nil {
				t.Fatal(err)
			}
			near, err := client.setUp(t.Context(), wire, b, host)
			if err != nil {
				t.Fatal(err)
			}
			defer near.Close()
			if _, own := near.(*tlsConn); own != row.own {
				t.Errorf("it is carried by a %T", near)
			}
			far := <-served
			if got := far.ConnectionState(); got.CipherSuite != row.suite || got.Version != row.version {
				t.Errorf("the connection has suite %#x of version %#x", got.CipherSuite, got.Version)
			}
			exchange(t, near, far, 3<<20)
		})
	}
}

// overTLS returns both ends of a connection to Go's TLS, behind the upgrade.
func overTLS(t *testing.T, config *tls.Config) (near *tlsConn, far *tls.Conn) {
	t.Helper()
	cert := certificate(t, ecdsaKey(), nil)
	config.Certificates = []tls.Certificate{cert}
	served := make(chan *tls.Conn, 1)
	done := t.Context().Done()
	dial := listen(t, func(conn net.Conn) {
		far := tls.Server(conn, config)
		if _, err := answer(far); err != nil {
			t.Error(err)
		}
		served <- far
		<-done
	})
	conn, err := connect(t, newWebtunnel(), bridgeArgs(cert), dial)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tlsConn), <-served
}

// TestResumption: a later connection begins with a ticket of the one before, used once, and
// only if what makes the server the right one is the same.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cert := certificate(t, ecdsaKey(), nil)
		config := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}
		served := make(chan *tls.Conn, 1)
		done := t.Context().Done()
		dial := listen(t, func(conn net.Conn) {
			far := tls.Server(conn, config)
			if _, err := answer(far); err != nil {
				return // the pin is another one's
			}
			served <- far
			<-done
		})
		client := newWebtunnel()
		for i, want := range []bool{false, true, true, false, true} {
			if i == 3 {
				client.tickets.kept = nil
			}
			near, err := connect(t, client, bridgeArgs(cert), dial)
			if err != nil {
				t.Fatal(err)
			}
			far := <-served
			if got := far.ConnectionState().DidResume; got != want {
				t.Errorf("version %#x: connection %d: resumed: %v, want %v", version, i, got, want)
			}
			if _, own := near.(*tlsConn); !own {
				t.Errorf("version %#x: it is carried by a %T", version, near)
			}
			exchange(t, near, far, 100_000)
		}
		state, _ := client.tickets.of(must(parseBridge(bridgeArgs(cert))), host, new([]byte)).Get("")
		if again, _ := client.tickets.of(must(parseBridge(bridgeArgs(cert))), host, new([]byte)).Get(""); state == nil || again != nil {
			t.Errorf("version %#x: a ticket is used twice", version)
		}
		client.tickets.of(must(parseBridge(bridgeArgs(cert))), host, new([]byte)).Put("", state)
		if _, err := connect(t, client, edit(bridgeArgs(cert), "cert", goodPin), dial); !errors.Is(err, errPin) {
			t.Errorf("version %#x: with another pin: %v", version, err)
		}
	}
}
