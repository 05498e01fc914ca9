package integration

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"waterproxy/transport"
)

// TestHostCalls holds how often modules call the host for a MiB that they carry: for each
// of the cipher's frames once, or once for many of them, and else by the buffer, not by
// the frame.
func TestHostCalls(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	for _, test := range []struct {
		transport     string
		args          transport.Args
		crypto, other int64 // at most, for a MiB one way. Frames of obfs4 are 740
	}{
		{"plain", nil, 0, 200},
		{"obfs4", nil, 800, 200},
		{"shadowsocks", transport.Args{"cipher": {"2022-blake3-aes-256-gcm"}}, 200, 200},
	} {
		t.Run(test.transport, func(t *testing.T) {
			t.Parallel()
			pair := newModulePair(t, test.transport, transport.Config{Args: test.args})
			near, far := pair.connect(t)
			for _, way := range []struct {
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
					if crypto > test.crypto || other > test.other {
						t.Errorf("%s, want at most %d and %d", says, test.crypto, test.other)
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

// modulePair is a built-in module as client and server, by the library.
type modulePair struct {
	dialer   *transport.RuntimeDialer
	listener *transport.Listener
	args     transport.Args
}

func newModulePair(t *testing.T, name string, cfg transport.Config) *modulePair {
	t.Helper()
	return newModulePairOn(t, name, cfg, listenLoopback(t))
}

func newModulePairOn(t *testing.T, name string, cfg transport.Config, inner net.Listener) *modulePair {
	t.Helper()
	module, err := transport.CompileFile(filepath.Join("..", "modules", "built", name+".wasm"), transport.CompileOptions{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { module.Close() })
	cfg.Module, cfg.StateDir = module, t.TempDir()
	p := &modulePair{}
	if p.listener, err = transport.Listen(t.Context(), cfg, inner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.listener.Close() })
	p.args = p.listener.Args()
	cfg.StateDir, cfg.Args = "", nil
	if p.dialer, err = transport.NewRuntimeDialer(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.dialer.Close() })
	return p
}

// stats returns the figures of the client and of the server.
func (p *modulePair) stats() []transport.Stats {
	return []transport.Stats{p.dialer.Stats(), p.listener.Stats()}
}

func (p *modulePair) connect(t *testing.T) (near, far net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := p.listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	near, err := p.dialer.Dial(t.Context(), "tcp", p.listener.Addr().String(), p.args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	select {
	case far = <-accepted:
	case <-time.After(obfs4Patience):
		t.Fatalf("the server has not accepted it; it has %+v", p.listener.Stats())
	}
	if far == nil {
		t.FailNow()
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}
