package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// TestShadowsocks carries connections between our ends and those of
// shadowsocks-libev, and between our own.
func TestShadowsocks(t *testing.T) {
	t.Parallel()
	lab := newShadowsocksLab(t)
	for _, cipher := range []string{"chacha20-ietf-poly1305", "aes-128-gcm", "aes-256-gcm"} {
		t.Run(cipher, func(t *testing.T) {
			t.Run("waterproxy to ss-server", func(t *testing.T) {
				t.Parallel()
				origin := listenLoopback(t).(*net.TCPListener)
				server := startSSServer(t, cipher)
				near := lab.connect(t, server, cipher, "target="+origin.Addr().String())
				far := acceptTCP(t, origin)
				exchange(t, near, far)
				checkClose(t, near, far)
			})
			t.Run("ss-local to waterproxy", func(t *testing.T) {
				t.Parallel()
				server := lab.server(t, cipher)
				proxy := startSSLocal(t, server.address, cipher)
				// Where the client wants to go does not matter.
				near := socksTCP(t, proxy, "", "192.0.2.7:443")
				far := acceptTCP(t, server.orPort)
				exchange(t, near, far)
				checkClose(t, near, far)
			})
			t.Run("waterproxy to waterproxy", func(t *testing.T) {
				t.Parallel()
				server := lab.server(t, cipher)
				near := lab.connect(t, server.address, cipher)
				far := acceptTCP(t, server.orPort)
				exchange(t, near, far)
				checkHalfClose(t, near, far)
			})
		})
	}
}

// TestShadowsocks2022 carries connections between our ends of the 2022 edition and those of
// sing-shadowsocks.
func TestShadowsocks2022(t *testing.T) {
	t.Parallel()
	common := newShadowsocksLab(t)
	for cipher, key := range map[string]string{ // 16 or 32 bytes, without the padding
		"2022-blake3-aes-128-gcm":       "AQIDBAUGBwgJCgsMDQ4PEA",
		"2022-blake3-aes-256-gcm":       "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
		"2022-blake3-chacha20-poly1305": "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
	} {
		lab := *common
		lab.password = key
		t.Run(cipher, func(t *testing.T) {
			t.Run("waterproxy to ss2022", func(t *testing.T) {
				t.Parallel()
				origin := listenLoopback(t).(*net.TCPListener)
				near := lab.connect(t, startSS2022(t, cipher, key, origin.Addr().String(), "-server"), cipher)
				far := acceptTCP(t, origin)
				exchange(t, near, far)
				checkClose(t, near, far)
			})
			t.Run("ss2022 to waterproxy", func(t *testing.T) {
				t.Parallel()
				server := lab.server(t, cipher)
				near, err := net.Dial("tcp", startSS2022(t, cipher, key, server.address))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { near.Close() })
				// It sends its header with the first bytes.
				if _, err := io.WriteString(near, "hello"); err != nil {
					t.Fatal(err)
				}
				far := acceptTCP(t, server.orPort)
				hello := make([]byte, 5)
				if _, err := io.ReadFull(far, hello); err != nil || string(hello) != "hello" {
					t.Fatalf("%q, %v", hello, err)
				}
				exchange(t, near.(*net.TCPConn), far)
				checkClose(t, near.(*net.TCPConn), far)
			})
			t.Run("waterproxy to waterproxy", func(t *testing.T) {
				t.Parallel()
				server := lab.server(t, cipher)
				near := lab.connect(t, server.address, cipher)
				far := acceptTCP(t, server.orPort)
				exchange(t, near, far)
				checkHalfClose(t, near, far)
			})
		})
	}
}

// exchange carries bytes both ways at once, and compares their SHA-256.
func exchange(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	const size = 32 << 20
	results := make(chan error, 4)
	for _, way := range []struct {
		from, to *net.TCPConn
		what     []byte
	}{{near, far, noise(size)}, {far, near, noise(size - 1)}} {
		go func() {
			_, err := way.from.Write(way.what)
			results <- err
		}()
		go func() {
			sum := sha256.New()
			n, err := io.CopyN(sum, way.to, int64(len(way.what)))
			if want := sha256.Sum256(way.what); err == nil && !bytes.Equal(sum.Sum(nil), want[:]) {
				err = fmt.Errorf("SHA-256 %x of %d bytes arrived, want %x", sum.Sum(nil), n, want)
			}
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// checkClose closes one end: what it wrote before arrives, and then the end.
// shadowsocks-libev passes on no half-close.
func checkClose(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	if _, err := near.Write([]byte("goodbye")); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(far); err != nil || string(b) != "goodbye" {
		t.Errorf("after the close %q arrived, and %v", b, err)
	}
}

// checkHalfClose ends one direction, and then carries 1 MiB in the other one.
func checkHalfClose(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(far); err != nil || len(b) > 0 {
		t.Errorf("after the half-close %d bytes arrived, and %v", len(b), err)
	}
	answer := noise(1 << 20)
	go func() {
		_, _ = far.Write(answer) // an error shows in what arrives
		_ = far.Close()
	}()
	if b, err := io.ReadAll(near); err != nil || !bytes.Equal(b, answer) {
		t.Errorf("of the answer %d bytes arrived, and %v", len(b), err)
	}
}

// TestShadowsocksReplay sends the server again what a client has sent: nothing comes
// to the ORPort, and the prober hears nothing.
func TestShadowsocksReplay(t *testing.T) {
	t.Parallel()
	lab := newShadowsocksLab(t)
	const cipher = "chacha20-ietf-poly1305"
	server := lab.server(t, cipher)
	for _, client := range []string{"waterproxy", "ss-local"} {
		t.Run(client, func(t *testing.T) {
			relay := startRecorder(t, server.address)
			var near *net.TCPConn
			if client == "waterproxy" {
				near = lab.connect(t, relay.address, cipher)
			} else {
				near = socksTCP(t, startSSLocal(t, relay.address, cipher), "", "192.0.2.7:443")
			}
			if _, err := near.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			expect(t, acceptTCP(t, server.orPort), "first")

			prober := dialTCP(t, server.address)
			if _, err := prober.Write(relay.sent()); err != nil {
				t.Fatal(err)
			}
			if err := prober.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if n, err := prober.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the prober got %d bytes and %v", n, err)
			}

			// Had the replay got through, it would be the next one here.
			again := lab.connect(t, server.address, cipher)
			if _, err := again.Write([]byte("again")); err != nil {
				t.Fatal(err)
			}
			expect(t, acceptTCP(t, server.orPort), "again")
		})
	}
}

func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v came; want %q", got, err, want)
	}
}

// TestShadowsocksTor fetches a file over a bridge whose module has made its password.
func TestShadowsocksTor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	exec := []string{waterproxy(t), "-module-state", "shadowsocks"}
	p := startPair(ctx, t, "shadowsocks", exec...)
	line, err := p.bridge.Line("shadowsocks")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(` cipher=chacha20-ietf-poly1305 password=[0-9A-Za-z_-]{32}$`).MatchString(line) {
		t.Errorf("the bridge line is %q", line)
	}
	fetch(ctx, t, web, p.client)

	if err := p.bridge.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if again, err := p.bridge.Line("shadowsocks"); err != nil || again != line {
		t.Errorf("after a restart the bridge line is %q, %v; it was %q", again, err, line)
	}
}

// TestShadowsocksLibevBridge fetches a file over a bridge whose ORPort is behind
// ss-server.
func TestShadowsocksLibevBridge(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	bridge := startBridge(ctx, t, tornet.BridgeOptions{
		Plugins: []tornet.Plugin{{Transports: []string{"plain"}, Exec: []string{waterproxy(t)}}},
	})
	line, err := bridge.Line("plain")
	if err != nil {
		t.Fatal(err)
	}
	const cipher = "aes-256-gcm"
	client := startClient(ctx, t, tornet.ClientOptions{
		Plugins: []tornet.Plugin{{Transports: []string{"shadowsocks"}, Exec: []string{waterproxy(t)}}},
		BridgeLines: []string{strings.Join([]string{
			"Bridge shadowsocks", startSSServer(t, cipher), bridgeFingerprint(t, line),
			"cipher=" + cipher, "password=" + shadowsocksPassword, "target=" + orPort(t, bridge),
		}, " ")},
	})
	fetch(ctx, t, web, client)
}

// orPort returns where a bridge's tor listens for other tors.
func orPort(t *testing.T, bridge *tornet.Bridge) string {
	t.Helper()
	torrc, err := os.ReadFile(filepath.Join(bridge.Dir(), "torrc"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^ORPort (\S+)$`).FindSubmatch(torrc)
	if found == nil {
		t.Fatalf("there is no ORPort in %s", torrc)
	}
	return string(found[1])
}

// TestShadowsocksBadArguments: tor's log names the argument that is wrong, and says
// nothing of the password.
func TestShadowsocksBadArguments(t *testing.T) {
	t.Parallel()
	lab := newShadowsocksLab(t)
	for options, named := range map[string]string{
		"":                            "password",
		"password=":                   "password",
		"password=quite,secret":       "password",
		"password=secret;cipher=none": "cipher",
	} {
		server := lab.launch(t, ours, lab.dir, lab.serverVariables(t, listenLoopback(t), options))
		server.Line(`^SMETHOD-ERROR shadowsocks .*the argument ` + named + ` `)
		server.Line(`^SMETHODS DONE$`)
		if lines := server.Stdout.All(); strings.Contains(strings.Join(lines, "\n"), "secret") {
			t.Errorf("with %q it said %q", options, lines)
		}
	}
	for args, named := range map[string]string{
		"cipher=none;password=secret":   "cipher",
		"cipher=aes-128-gcm":            "password",
		"password=secret;target=nobody": "target",
	} {
		listener := listenLoopback(t)
		if conn, err := dialSOCKS(lab.client.address(t), args, listener.Addr().String()); err == nil {
			conn.Close()
			t.Errorf("with %q there is a connection", args)
		}
		lab.client.Line(`the argument ` + named + ` `)
	}
	if lines := lab.client.Stdout.All(); strings.Contains(strings.Join(lines, "\n"), "secret") {
		t.Errorf("the client said %q", lines)
	}
}
