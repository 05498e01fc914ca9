package self

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// moduleVersion returns a module's file with a custom section, which makes it
// another one that does the same.
func moduleVersion(wasm []byte, n int) []byte {
	section := fmt.Appendf([]byte{7}, "version%d", n) // a name of seven bytes
	return append(append(bytes.Clone(wasm), 0, byte(len(section))), section...)
}

// install puts a file in the place of another as an operator should: at once.
func install(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// said returns how many lines of standard output have a text.
func (p *process) said(text string) (n int) {
	for _, line := range p.Stdout.All() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// await waits until so many lines of standard output have a text.
func (p *process) await(text string, n int) {
	p.T.Helper()
	for end := time.Now().Add(pttest.Patience); p.said(text) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.T.Fatalf("%q is said %d times, want %d", text, p.said(text), n)
		}
	}
}

func (p *process) hangUp() {
	p.T.Helper()
	if err := p.Signal(syscall.SIGHUP); err != nil {
		p.T.Fatal(err)
	}
}

// busy exchanges bytes over a connection until stop is called.
type busy struct {
	near, far *net.TCPConn
	halt      atomic.Bool
	round     chan struct{} // has a token after a round; closed at the end
	ended     chan error
}

func keepBusy(near, far *net.TCPConn) *busy {
	b := &busy{near: near, far: far, round: make(chan struct{}, 1), ended: make(chan error, 1)}
	go func() { b.ended <- b.run() }()
	return b
}

func (b *busy) run() error {
	defer close(b.round)
	there, back := random(3000), random(2000)
	for !b.halt.Load() {
		for _, way := range []struct {
			from, to *net.TCPConn
			text     []byte
		}{{b.near, b.far, there}, {b.far, b.near, back}} {
			if _, err := way.from.Write(way.text); err != nil {
				return err
			}
			got := make([]byte, len(way.text))
			if _, err := io.ReadFull(way.to, got); err != nil {
				return err
			}
			if !bytes.Equal(got, way.text) {
				return fmt.Errorf("other bytes have arrived")
			}
		}
		select {
		case b.round <- struct{}{}:
		default:
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// awaitRound waits until a round has ended, after those that have so far.
func (b *busy) awaitRound() error {
	select {
	case <-b.round:
	default:
	}
	select {
	case <-b.round:
		return nil
	case <-time.After(pttest.Patience):
		return errors.New("it stands still")
	}
}

func (b *busy) stop() error {
	b.halt.Store(true)
	return <-b.ended
}

const (
	loaded    = "new connections use the new version"
	unchanged = "there is nothing new to load"
	notLoaded = "a new version cannot be used; the old one stays"
)

// Two hundred connections run while the module is replaced twenty times, on both
// sides (fewer, and less often, under the race detector). None is lost, each version
// carries new ones, and a broken file in between changes nothing.
func TestHotReload(t *testing.T) {
	for name, instances := range map[string]string{"shared": "instances = 1", "each": "instance-per-connection = true"} {
		t.Run(name, func(t *testing.T) { hotReload(t, instances) })
	}
}

func hotReload(t *testing.T, instances string) {
	connections, versions := pttest.Count(200, 50), pttest.Count(20, 6)
	dir := t.TempDir()
	file := filepath.Join(dir, "t.wasm")
	wasm := testmodules.Load(t, "many_c")
	if strings.Contains(instances, "connection") {
		wasm = testmodules.Load(t, "plain_v1")
	}
	install(t, file, wasm)
	install(t, filepath.Join(dir, "t.toml"), []byte(instances))
	// The versions would crowd what other tests have compiled out of the shared directory.
	p := startPairIn(t, t.TempDir(), "t", "-modules", dir)

	var all []*busy
	connect := func() {
		near, far := p.connect(t)
		if err := pttest.Exchange(crossed{near, far}, []byte("x"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		all = append(all, keepBusy(near, far))
	}
	for range connections {
		connect()
	}
	for n := range versions {
		if n == versions/2 {
			install(t, file, []byte("this is no module"))
			for _, side := range []*process{p.client, p.server} {
				side.hangUp()
				side.await(notLoaded, 1)
			}
			connect()
		}
		install(t, file, moduleVersion(wasm, n))
		for _, side := range []*process{p.client, p.server} {
			side.hangUp()
			side.await(loaded, n+1)
		}
		connect()
	}
	for _, side := range []*process{p.client, p.server} {
		if n := side.said(notLoaded); n != 1 {
			t.Errorf("%d versions were not loaded, want 1", n)
		}
	}
	var stopping sync.WaitGroup
	for i, b := range all {
		stopping.Go(func() {
			if err := errors.Join(b.awaitRound(), b.stop()); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	stopping.Wait()
}

// With -watch nobody has to send a signal. Settings that are wrong leave the old
// ones in place.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file, toml := filepath.Join(dir, "t.wasm"), filepath.Join(dir, "t.toml")
	wasm := testmodules.Load(t, "plain_v1")
	install(t, file, wasm)
	p := startPair(t, "t", "-modules", dir, "-watch")
	use := func() {
		t.Helper()
		near, far := p.connect(t)
		if err := pttest.Exchange(crossed{near, far}, []byte("x"), []byte("x")); err != nil {
			t.Error(err)
		}
	}
	use()
	p.server.Address("t")
	install(t, file, moduleVersion(wasm, 1))
	p.client.await(loaded, 1)
	p.server.await(loaded, 1)
	use()
	install(t, toml, []byte("state = true\ninstances = 0\n"))
	p.client.await(notLoaded, 1)
	p.client.await("t.toml:2: instances: 0 is not between", 1)
	use()
	install(t, toml, []byte("[limits]\ndescriptors = 12\n"))
	p.client.await(loaded, 2)
	use()
	if err := os.Remove(toml); err != nil {
		t.Fatal(err)
	}
	p.client.await(loaded, 3)
}

// What tor says about the way out applies to each version of a module, and to one that
// is loaded late.
func TestReloadKeepsProxy(t *testing.T) {
	proxy, tunnels := upstream(t, "user:password")
	target := pttest.Listen(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "t.wasm")
	wasm := testmodules.Load(t, "plain_v1")
	install(t, file, wasm)
	env := clientVariables("t").With(ptproc.Variables{
		"TOR_PT_PROXY": "http://user:password@" + proxy, "TOR_PT_OUTBOUND_BIND_ADDRESS_V4": "127.0.0.1",
	})
	env = started(t, env, []string{"-modules", dir})
	p := launch(t, env, "-modules", dir)
	use := func() {
		t.Helper()
		pttest.Echo(t, pttest.Connect(t, p.Address("t"), target.Addr().String()), pttest.Accept(t, target))
		select {
		case <-tunnels:
		default:
			t.Fatal("a connection went past the proxy")
		}
	}
	use()
	for n := range 2 {
		install(t, file, moduleVersion(wasm, n))
		p.hangUp()
		p.await(loaded, n+1)
		use()
	}
}

// A transport that nobody has used is loaded by its first connection as it is then.
func TestReloadBeforeUse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "t.wasm")
	wasm := testmodules.Load(t, "plain_v1")
	install(t, file, wasm)
	install(t, filepath.Join(dir, "other.wasm"), wasm)
	env := started(t, clientVariables("t,other"), []string{"-modules", dir})
	p := launch(t, env, "-modules", dir)
	p.ready()
	install(t, file, []byte("this is no module"))
	p.hangUp()
	p.await(unchanged, 1)
	if _, code := pttest.Ask(t, p.Address("t"), pttest.DeadAddress(t), ""); code != pttest.ReplyFailure {
		t.Errorf("reply %d, of a module that is none any more", code)
	}
	install(t, file, moduleVersion(wasm, 1))
	echoThrough(t, p.Address("t"))
	install(t, file, moduleVersion(wasm, 2))
	p.hangUp()
	p.await(loaded, 1)
	echoThrough(t, p.Address("t"))
}

// What is wrong with settings is told at the start, whether or not the transport has
// started before.
func TestSettingsAreRead(t *testing.T) {
	dir := t.TempDir()
	install(t, filepath.Join(dir, "t.wasm"), testmodules.Load(t, "plain_v1"))
	env := started(t, clientVariables("t"), []string{"-modules", dir})
	install(t, filepath.Join(dir, "t.toml"), []byte("instances = 0"))
	p := launch(t, env, "-modules", dir)
	p.Line(`^CMETHOD-ERROR t .*t\.toml:1: instances`)
}

// SIGHUP without a change changes nothing, and ends nothing.
func TestHangUp(t *testing.T) {
	const said = unchanged
	p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-log", "hangup.log", "-log-format", "json")...)
	p.ready()
	p.hangUp()
	p.await(said, 1)
	// tor is told first.
	file := filepath.Join(stateDir, "hangup.log")
	for end := time.Now().Add(pttest.Patience); ; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(file); strings.Contains(string(text), `"msg":"`+said) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the log in the state directory is %q, %v", text, err)
		}
	}
	pttest.Ask(t, p.Address("t"), pttest.DeadAddress(t), "")
}
