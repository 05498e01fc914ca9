package integration

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/tornet"
	"waterproxy/transport"
)

// TestObfs4 has our obfs4 talk to Debian's obfs4proxy and to lyrebird, each as a client
// and as a server:
//
//	                      ours-ours  ours-another  another-ours
//	32 MiB each way          x            x             x        iat-mode 0
//	256 KiB each way         x            x             x        iat-mode 1
//	64 KiB each way          x            x             x        iat-mode 2
//	written and closed       x            x             x        1 MiB; 64 KiB in modes 1, 2
//	half-close, answer       x            (obfs4proxy closes both directions)
//
// In the modes 1 and 2 a server and its clients pause for up to 10 ms after each
// segment, or part of one, which makes them slow by design: hence the smaller sizes.
func TestObfs4(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	clients := map[string]obfs4Client{ours: lab.client(t, ours), theirs: lab.client(t, theirs), newer: lab.client(t, newer)}
	for mode, size := range []struct{ each, closed int }{{32 << 20, 1 << 20}, {256 << 10, 64 << 10}, {64 << 10, 64 << 10}} {
		servers := map[string]obfs4Server{}
		for _, program := range []string{ours, theirs, newer} {
			servers[program] = lab.server(t, program, lab.state(t), fmt.Sprint(obfs4Keys, ";iat-mode=", mode))
		}
		for _, pair := range [][2]string{{ours, ours}, {ours, theirs}, {theirs, ours}, {ours, newer}, {newer, ours}} {
			t.Run(fmt.Sprintf("%s to %s, iat-mode %d", pair[0], pair[1], mode), func(t *testing.T) {
				t.Parallel()
				server := servers[pair[1]]
				link := obfs4Link{clients[pair[0]], server, server.bridgeArgs(), mode == 2, slices.Contains(pair[:], newer)}
				if want := fmt.Sprint("iat-mode=", mode); !strings.HasSuffix(link.args, want) {
					t.Errorf("the arguments are %s, want %s", link.args, want)
				}
				link.exchange(t, size.each)
				link.writeAndClose(t, size.closed)
				if pair[0] == pair[1] {
					link.answer(t, size.closed)
				}
			})
		}
	}
}

// answer ends one direction, in which the other end sees the end, and goes on with the
// other.
func (l obfs4Link) answer(t *testing.T, size int) {
	t.Helper()
	near, far := l.connect(t)
	request, answer := noise(size), noise(size+1)
	go func() { _ = send(near, request) }() // an error shows in what arrives
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, request) {
		t.Errorf("of the request %d bytes arrived, and %v", len(got), err)
	}
	go func() { _ = send(far, answer) }() // the same
	if got, err := io.ReadAll(near); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("of the answer %d bytes arrived, and %v", len(got), err)
	}
}

// TestObfs4State has our server take over obfs4proxy's state, and give it to lyrebird and
// back: the bridge line stays, and clients that have it notice nothing.
func TestObfs4State(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	state := lab.state(t)
	clients := []obfs4Client{lab.client(t, ours), lab.client(t, theirs), lab.client(t, newer)}
	first := ""
	for _, program := range []string{theirs, ours, newer, ours, theirs} {
		server := lab.server(t, program, state, "")
		if first == "" {
			first = server.bridgeArgs()
		}
		if args := server.bridgeArgs(); args != first {
			t.Errorf("%s publishes %s, and the first server did %s", program, args, first)
		}
		for _, client := range clients {
			obfs4Link{client: client, server: server, args: first}.exchange(t, 100_000)
		}
		end(t, server.Process)
	}
}

// TestObfs4Many has 200 clients at once at one server, which is one instance. The
// server is the library, where instances can be counted.
func TestObfs4Many(t *testing.T) {
	t.Parallel()
	const clients, size = 200, 256 << 10
	lab := newObfs4Lab(t)
	listener := listenObfs4(t, lab, transport.Config{})
	var carried sync.WaitGroup
	t.Cleanup(carried.Wait)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			carried.Go(func() {
				_, _ = io.Copy(conn, conn) // an error shows in what comes back
				_ = conn.Close()
			})
		}
	}()
	client := lab.client(t, theirs)
	args := strings.ReplaceAll(listener.Args().String(), ",", ";")
	var connecting, using sync.WaitGroup
	connected := make(chan struct{})
	for i := range clients {
		connecting.Add(1)
		using.Go(func() {
			conn, err := client.connect(listener.Addr().String(), args)
			connecting.Done()
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			defer conn.Close()
			<-connected
			text := noise(size + i)
			go func() { _, _ = conn.Write(text) }() // an error shows in what comes back
			got := make([]byte, len(text))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, text) {
				t.Errorf("client %d: of %d bytes %d came back, and %v", i, len(text), n, err)
			}
		})
	}
	connecting.Wait()
	if got := listener.Stats(); got.Instances != 1 || got.Connections != clients || got.Failures != 0 {
		t.Errorf("there are %+v, want one instance with %d connections", got, clients)
	}
	close(connected)
	using.Wait()
}

// listenObfs4 starts our server in this process, with keys of its own.
func listenObfs4(t *testing.T, lab *obfs4Lab, cfg transport.Config) *transport.Listener {
	t.Helper()
	m, err := transport.CompileFile(filepath.Join("..", "modules", "built", "obfs4.wasm"), transport.CompileOptions{CacheDir: filepath.Join(lab.state(t), "compiled")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	cfg.Module, cfg.StateDir = m, t.TempDir()
	listener, err := transport.Listen(t.Context(), cfg, listenLoopback(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// TestObfs4BadBridgeLine gives our client bad arguments. The answer is a failure, and
// the log names the argument and does not have its value.
func TestObfs4BadBridgeLine(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	client := lab.client(t, ours)
	nobody := listenLoopback(t).(*net.TCPListener)
	cert := base64.RawStdEncoding.EncodeToString(noise(52))
	for _, test := range []struct{ args, says string }{
		{"iat-mode=0", "the argument cert is missing"},
		{"cert=%" + cert + ";iat-mode=0", "the argument cert is not base64"},
		{"cert=" + cert[:60] + ";iat-mode=0", "the argument cert is 45 bytes long, not 52"},
		{"cert=" + cert, "the argument iat-mode is missing"},
		{"cert=" + cert + ";iat-mode=31", "the argument iat-mode is none of 0, 1 and 2"},
	} {
		if conn, err := client.connect(nobody.Addr().String(), test.args); err == nil {
			conn.Close()
			t.Errorf("%s: the connection was granted", test.args)
		}
		client.Line(`^LOG SEVERITY=warning MESSAGE=.*the module says: ` + test.says)
	}
	lines := client.Stdout.All()
	for _, value := range []string{cert[:20], "=31", "31 "} {
		if log := strings.Join(lines, "\n"); strings.Contains(log, value) {
			t.Errorf("the log has %q in it:\n%s", value, log)
		}
	}
}

// TestObfs4BadServer gives our server bad options and a damaged state file. tor gets
// an SMETHOD-ERROR that says what is wrong and quotes nothing.
func TestObfs4BadServer(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	// refused returns what the server says.
	refused := func(state, options string) string {
		return lab.server(t, ours, state, options).Line(`^SMETHOD-ERROR obfs4 (.*)`)[1]
	}
	for old, test := range map[string]struct{ new, says string }{
		"node-id=01":      {"node-id=zz", "the argument node-id is not hexadecimal"},
		"private-key=21":  {"private-key=", "the argument private-key is 31 bytes long, not 32"},
		";drbg-seed=7365": {";iat-mode=0;drbg-sad=7365", "the argument drbg-seed is missing"},
		"node-id=0102":    {"iat-mode=3;node-id=0102", "the argument iat-mode is none of 0, 1 and 2"},
	} {
		options := strings.Replace(obfs4Keys, old, test.new, 1)
		text := refused(lab.state(t), options)
		if !strings.Contains(text, test.says) {
			t.Errorf("%s: it says %q, want %q", options, text, test.says)
		}
		for _, pair := range strings.Split(options, ";") {
			if _, value, _ := strings.Cut(pair, "="); len(value) > 1 && strings.Contains(text, value) {
				t.Errorf("%q has the value %q in it", text, value)
			}
		}
	}
	state := lab.state(t)
	file := filepath.Join(state, "obfs4_state.json")
	damaged := []byte(`{"node-id":"0102030405060708090a0b0c0d0e0f1011121314","private-key":"21222`)
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	text := refused(state, "")
	for _, want := range []string{"obfs4_state.json", "restore it, or move it away"} {
		if !strings.Contains(text, want) {
			t.Errorf("it says %q, without %q", text, want)
		}
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) {
		t.Errorf("the damaged file is %q now (%v)", now, err)
	}
}

// TestObfs4Tor fetches a file through obfs4 under tor, with our transport on either
// side and on both, by the bridge line that tor wrote.
func TestObfs4Tor(t *testing.T) {
	t.Parallel()
	plugins := map[string][]tornet.Plugin{
		ours:   {{Transports: []string{"obfs4"}, Exec: []string{waterproxy(t)}}},
		theirs: {{Transports: []string{"obfs4"}, Exec: []string{program(t, theirs)}}},
	}
	web := startWeb(t, 1<<20)
	lines := map[string]string{}
	for program, plugin := range plugins {
		bridge := startBridge(testContext(t), t, tornet.BridgeOptions{Plugins: plugin})
		line, err := bridge.Line("obfs4")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line, " cert=") || !strings.HasSuffix(line, " iat-mode=0") {
			t.Errorf("the bridge line of %s is %s", program, line)
		}
		lines[program] = line
	}
	for _, pair := range [][2]string{{ours, ours}, {theirs, ours}, {ours, theirs}} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			ctx := testContext(t)
			client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins[pair[0]], BridgeLines: []string{lines[pair[1]]}})
			fetch(ctx, t, web, client)
		})
	}
}

// TestObfs4Refused has clients with a wrong cert and a handshake that is sent again.
// All of them take the time of a handshake to be refused, so they run at once.
func TestObfs4Refused(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	var refused sync.WaitGroup
	servers := map[string]obfs4Server{}
	for _, program := range []string{ours, theirs} {
		servers[program] = lab.server(t, program, lab.state(t), obfs4Keys)
	}
	for _, pair := range [][2]string{{ours, ours}, {theirs, ours}, {ours, theirs}} {
		client, server := lab.client(t, pair[0]), servers[pair[1]]
		wrong := strings.Replace(server.bridgeArgs(), "cert=A", "cert=B", 1)
		if wrong == server.bridgeArgs() {
			t.Fatalf("no other cert is made of %s", wrong)
		}
		refused.Go(func() {
			if conn, err := client.connect(server.address(), wrong); err == nil {
				conn.Close()
				t.Errorf("%s got a connection from %s with a wrong cert", pair[0], pair[1])
			}
		})
	}

	// A server that has not seen the handshake answers it: the record is good.
	other := lab.server(t, ours, lab.state(t), obfs4Keys)
	replayed := recordHandshake(t, lab.client(t, theirs), lab.server(t, ours, lab.state(t), obfs4Keys))
	again := replay(t, other.address(), replayed.handshake)
	if _, err := again.Read(make([]byte, 1)); err != nil {
		t.Errorf("a server that the handshake is new to says %v", err)
	}
	other.accept(t)
	for range 3 {
		conn := replay(t, replayed.server.address(), replayed.handshake)
		refused.Go(func() {
			if n, err := io.Copy(io.Discard, conn); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a handshake that was sent again is answered with %d bytes, and %v", n, err)
			}
		})
	}
	refused.Wait()
	for _, server := range []obfs4Server{servers[ours], servers[theirs], replayed.server} {
		server.checkUnused(t)
	}
}

// recorded is a client's handshake, and the server that has answered it.
type recorded struct {
	handshake []byte
	server    obfs4Server
}

// recordHandshake has a client connect to a server over a relay, and takes down what
// it sends before the server's first byte.
func recordHandshake(t *testing.T, client obfs4Client, server obfs4Server) recorded {
	t.Helper()
	relay := listenLoopback(t)
	handshake := make(chan []byte, 1)
	go func() {
		defer close(handshake)
		in, err := relay.Accept()
		if err != nil {
			return // the test is over
		}
		defer in.Close()
		out, err := net.Dial("tcp", server.address())
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		var sent bytes.Buffer
		up := make(chan struct{})
		go func() {
			defer close(up)
			_, _ = io.Copy(out, io.TeeReader(in, &sent)) // until the deadline
		}()
		first := make([]byte, 1)
		_, err = io.ReadFull(out, first)
		_ = in.SetReadDeadline(time.Now()) // an error shows in what follows
		<-up
		_ = in.SetReadDeadline(time.Time{})
		if err != nil {
			t.Error(err)
			return
		}
		handshake <- sent.Bytes()
		go func() { _, _ = io.Copy(out, in) }() // until one of them is closed
		_, _ = in.Write(first)                  // an error shows at the client
		_, _ = io.Copy(in, out)
	}()
	conn, err := client.connect(relay.Addr().String(), server.bridgeArgs())
	if err != nil {
		t.Fatal(err)
	}
	server.accept(t).Close()
	conn.Close()
	return recorded{<-handshake, server}
}

// replay opens a connection that begins with some bytes.
func replay(t *testing.T, address string, begin []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write(begin); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(obfs4Patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}
