package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/transport"
)

// publishedModule holds modules that others built, with TinyGo and with Rust,
// years before this runtime. bench/peer depends on it for its runtime.
const publishedModule = "github.com/refraction-networking/water"

// published finds the module files, by way of Go's module cache.
func published(t *testing.T) (files []string) {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", publishedModule)
	cmd.Dir = filepath.Join("..", "bench", "peer")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot get the published modules: %v", err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(m.Dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".wasm") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 6 {
		t.Fatalf("only %d published modules in %s", len(files), m.Dir)
	}
	return files
}

// TestPublishedModules carries connections through modules that were made for
// another runtime, in every role, in ways in which that one loses data.
func TestPublishedModules(t *testing.T) {
	t.Parallel()
	for _, file := range published(t) {
		name := strings.Join(strings.Split(file, string(filepath.Separator))[len(strings.Split(file, string(filepath.Separator)))-4:], "/")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := transport.CompileFile(file, transport.CompileOptions{CacheDir: filepath.Join(t.TempDir(), "cache")})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			cfg := transport.Config{Module: m}
			for role, connect := range map[transport.Role]func(*testing.T, transport.Config) (caller, wire net.Conn){
				transport.RoleClient: connectClient, transport.RoleServer: connectServer, transport.RoleRelay: connectRelay,
			} {
				if !slices.Contains(m.Roles(), role) {
					t.Errorf("the role %v is not offered", role)
					continue
				}
				t.Run(role.String(), func(t *testing.T) {
					carryEverything(t, func() (net.Conn, net.Conn) { return connect(t, cfg) })
				})
			}
		})
	}
}

// carryEverything sends bytes through connections and closes them in several
// orders. A module may transform what it carries, each read by itself, so
// contents are compared as sorted bytes.
func carryEverything(t *testing.T, connect func() (caller, wire net.Conn)) {
	const large = 1 << 20
	for _, test := range []struct {
		name       string
		up, down   int
		answer     bool // down is sent after the end of up
		slowReader bool
	}{
		{"close after one byte", 1, 0, false, false},
		{"write and close", 1 << 20, 0, false, false},
		{"the other side writes and closes", 0, 1 << 20, false, false},
		{"half-close, then answer", large, large, true, false},
		{"both directions at once", large, large, false, false},
		{"slow reader", 2 * large, 0, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			caller, wire := connect()
			defer caller.Close()
			defer wire.Close()
			limit := time.Now().Add(3 * time.Minute)
			caller.SetDeadline(limit)
			wire.SetDeadline(limit)
			up, down := noise(test.up), noise(test.down)
			upArrived := make(chan struct{})
			results := make(chan error, 4)
			go func() { results <- send(caller, up) }()
			go func() {
				if test.answer {
					<-upArrived
				}
				results <- send(wire, down)
			}()
			go func() {
				defer close(upArrived)
				results <- receive(wire, up, test.slowReader)
			}()
			go func() { results <- receive(caller, down, false) }()
			for range cap(results) {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	rnd.Read(b)
	return b
}

// send writes everything and half-closes.
func send(c net.Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

// receive reads to the end of the stream and compares.
func receive(c net.Conn, want []byte, slow bool) error {
	var start []byte
	if slow {
		start = make([]byte, len(want)/2)
		if _, err := io.ReadFull(c, start); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond) // a reader that does something else
	}
	rest, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("read: %w after %d of %d bytes", err, len(start)+len(rest), len(want))
	}
	got := append(start, rest...)
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes arrived, %d were sent, and they are not the same", len(got), len(want))
	}
	return nil
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// accepted runs dial while accepting one connection.
func accepted(t *testing.T, l net.Listener, dial func() (net.Conn, error)) (dialed, accepted net.Conn) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		dialed, err = dial()
	}()
	accepted, aerr := l.Accept()
	<-done
	if err != nil || aerr != nil {
		t.Fatalf("dial: %v, accept: %v", err, aerr)
	}
	return dialed, accepted
}

func connectClient(t *testing.T, cfg transport.Config) (caller, wire net.Conn) {
	d, err := transport.NewRuntimeConnDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := listenLoopback(t)
	return accepted(t, l, func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})
}

func connectServer(t *testing.T, cfg transport.Config) (caller, wire net.Conn) {
	l, err := transport.Listen(t.Context(), cfg, listenLoopback(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	wire, caller = accepted(t, l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
	return caller, wire
}

func connectRelay(t *testing.T, cfg transport.Config) (caller, wire net.Conn) {
	target := listenLoopback(t)
	r, err := transport.NewRelay(cfg, listenLoopback(t), "tcp", target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Abort() })
	return accepted(t, target, func() (net.Conn, error) { return net.Dial("tcp", r.Addr().String()) })
}
