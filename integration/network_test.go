// Package integration holds the tests that need other programs: a real tor at
// both ends of the executable, in a private network on loopback. A program that
// is missing fails a test, with the name of its Debian package; nothing is
// skipped.
package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// testTimeout bounds each test: many times what the slowest takes.
const testTimeout = 8 * time.Minute

var keep = flag.Bool("keep", false, "keep the folder with tor's logs")

// network is the core that all tests share. It is started by the first test
// that wants it and closed by TestMain.
var network struct {
	sync.Mutex
	started bool
	core    *tornet.Core
	err     error
	dir     string
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(harnessVariable); dir != "" {
		os.Exit(runHarness(dir))
	}
	code := m.Run()
	if err := closeNetwork(); err != nil {
		fmt.Fprintf(os.Stderr, "closing the private Tor network: %v\n", err)
		code = 1
	}
	if err := removeCompiled(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func closeNetwork() error {
	network.Lock()
	defer network.Unlock()
	if network.core != nil {
		if err := network.core.Close(); err != nil {
			return err
		}
	}
	if network.dir == "" {
		return nil
	}
	if *keep {
		fmt.Fprintf(os.Stderr, "tor's logs are in %s\n", network.dir)
		return nil
	}
	return os.RemoveAll(network.dir)
}

// startedCore returns the shared core.
func startedCore(ctx context.Context, t *testing.T) *tornet.Core {
	t.Helper()
	network.Lock()
	defer network.Unlock()
	if !network.started {
		network.started = true
		network.dir, network.err = os.MkdirTemp("", "waterproxy-integration-")
		if network.err == nil {
			begin := time.Now()
			network.core, network.err = tornet.StartCore(ctx, network.dir, tornet.CoreOptions{})
			t.Logf("the core was ready after %v", time.Since(begin).Round(time.Millisecond))
		}
	}
	if network.err != nil {
		t.Fatal(network.err)
	}
	return network.core
}

// interrupted ends when somebody wants the tests to end. Then each test fails
// and TestMain cleans up.
var interrupted, _ = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)

// testContext returns a context that ends with the test, when it takes too long
// or when the tests are interrupted, so that what it started is still stopped in
// order.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), testTimeout,
		fmt.Errorf("the test took longer than %v", testTimeout))
	t.Cleanup(cancel)
	ctx, giveUp := context.WithCancelCause(ctx)
	stop := context.AfterFunc(interrupted, func() { giveUp(context.Cause(interrupted)) })
	t.Cleanup(func() {
		stop()
		giveUp(nil)
	})
	return ctx
}

// program returns the path of a program that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := tornet.LookUp(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// peer returns the path of one of the programs that make peers builds.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("peers", "built", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("make peers builds it: %v", err)
	}
	return path
}

// waterproxy returns the path of the executable under test: what the variable
// WATERPROXY names or else what make has built.
func waterproxy(t *testing.T) string {
	t.Helper()
	path := os.Getenv("WATERPROXY")
	if path == "" {
		path = filepath.Join("..", "waterproxy")
	}
	return builtFile(t, path)
}

// builtFile returns the absolute path of a file that make builds.
func builtFile(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make", err)
	}
	return path
}

// startBridge starts a bridge that is closed with the test.
func startBridge(ctx context.Context, t *testing.T, o tornet.BridgeOptions) *tornet.Bridge {
	t.Helper()
	core := startedCore(ctx, t)
	begin := time.Now()
	bridge, err := core.StartBridge(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s was ready after %v", bridge.Name(), time.Since(begin).Round(time.Millisecond))
	closeAtEnd(t, bridge.Name(), bridge.Close)
	return bridge
}

// startClient starts a client that is closed with the test.
func startClient(ctx context.Context, t *testing.T, o tornet.ClientOptions) *tornet.Client {
	t.Helper()
	core := startedCore(ctx, t)
	begin := time.Now()
	client, err := core.StartClient(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s was ready after %v", client.Name(), time.Since(begin).Round(time.Millisecond))
	closeAtEnd(t, client.Name(), client.Close)
	return client
}

// startWeb starts a web server that is closed with the test.
func startWeb(t *testing.T, size int64) *tornet.Web {
	t.Helper()
	web, err := tornet.StartWeb(size)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, "the web server", web.Close)
	return web
}

func closeAtEnd(t *testing.T, name string, closeIt func() error) {
	t.Cleanup(func() {
		if err := closeIt(); err != nil {
			t.Errorf("closing %s: %v", name, err)
		}
	})
}

// pair is a bridge and a client of it.
type pair struct {
	bridge *tornet.Bridge
	client *tornet.Client
}

// startPair starts a bridge with one transport and a client that uses it, both
// through the same command.
func startPair(ctx context.Context, t *testing.T, transport string, command ...string) pair {
	t.Helper()
	plugins := []tornet.Plugin{{Transports: []string{transport}, Exec: command}}
	bridge := startBridge(ctx, t, tornet.BridgeOptions{Plugins: plugins})
	client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins, BridgeLines: bridge.Lines()})
	return pair{bridge: bridge, client: client}
}

// fetch fetches the file of web through client's tor, after the first circuit
// is there.
func fetch(ctx context.Context, t *testing.T, web *tornet.Web, client *tornet.Client) {
	t.Helper()
	begin := time.Now()
	if err := web.Probe(ctx, client.HTTP()); err != nil {
		t.Fatalf("through %s: %v", client.Name(), err)
	}
	t.Logf("the web server answered after %v", time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	if err := web.Download(ctx, client.HTTP(), nil); err != nil {
		t.Fatalf("downloading through %s: %v", client.Name(), err)
	}
	logSpeed(t, "download", web.Size(), time.Since(begin))
}

func logSpeed(t *testing.T, what string, size int64, took time.Duration) {
	t.Helper()
	t.Logf("%s of %d bytes took %v: %.1f MB/s", what, size, took.Round(time.Millisecond),
		float64(size)/1e6/took.Seconds())
}
