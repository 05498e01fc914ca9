package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/tornet"
	"waterproxy/transport/testmodules"
)

// argtest returns flags that make the test module argtest a transport of that name.
// A client's bridge line must have the bridge's key for it.
func argtest(t *testing.T) []string {
	return []string{"-module", "argtest=" + builtFile(t, testmodules.Path("go/argtest"))}
}

// TestModules fetches a file through modules that were made with the SDK, and one in
// C with threads, by the bridge line that the bridge's tor wrote.
func TestModules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, transport string
		flags           []string
		options         string // of the bridge, and in the bridge line
	}{
		{"plain, an instance for each connection", "plain", []string{"-module-instances", "plain=each"}, ""},
		{"reverse", "reverse", nil, ""},
		{"mux", "mux", nil, ""},
		{"threads", "threads", []string{"-module", "threads=" + builtFile(t, testmodules.Path("threads"))}, ""},
		{"arguments", "argtest", argtest(t), "key=Zm9vYmFy:/+;x mode=0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			web := startWeb(t, 1<<20)
			plugins := []tornet.Plugin{{
				Transports: []string{test.transport},
				Exec:       append([]string{waterproxy(t)}, test.flags...),
			}}
			bridge := startBridge(ctx, t, tornet.BridgeOptions{
				Plugins:          plugins,
				TransportOptions: map[string]string{test.transport: test.options},
			})
			line, err := bridge.Line(test.transport)
			if err != nil {
				t.Fatal(err)
			}
			if _, args, _ := strings.Cut(line, bridgeFingerprint(t, line)); strings.TrimSpace(args) != test.options {
				t.Errorf("the bridge line has the arguments %q, want %q: %s", args, test.options, line)
			}
			client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins, BridgeLines: []string{line}})
			fetch(ctx, t, web, client)
		})
	}
}

// startArgtest starts a bridge whose module draws its key itself, and keeps it.
func startArgtest(ctx context.Context, t *testing.T) (*tornet.Bridge, []tornet.Plugin) {
	t.Helper()
	exec := append([]string{waterproxy(t), "-module-state", "argtest"}, argtest(t)...)
	plugins := []tornet.Plugin{{Transports: []string{"argtest"}, Exec: exec}}
	return startBridge(ctx, t, tornet.BridgeOptions{Plugins: plugins}), plugins
}

// key matches the end of the bridge line of such a bridge.
var key = regexp.MustCompile(` key=[0-9a-f]{16}$`)

// TestRefusedByModule uses bridge lines with a wrong key, and without the one that the
// module needs: the module at one end refuses, and tor's log has its words.
func TestRefusedByModule(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	bridge, plugins := startArgtest(ctx, t)
	line, err := bridge.Line("argtest")
	if err != nil {
		t.Fatal(err)
	}
	core := startedCore(ctx, t)
	// refused starts a client that does not get there, until a log of that kind of node
	// has the words.
	refused := func(line, kind, words string) {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := core.StartClient(ctx, tornet.ClientOptions{Plugins: plugins, BridgeLines: []string{line}})
			ended <- err
		}()
		for !logged(t, filepath.Join(core.Dir(), kind, "pt.log"), words) {
			select {
			case err := <-ended:
				t.Fatalf("no log has %q; a client with the line %q: %v", words, line, err)
			case <-pause():
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("a client with the line %q: %v", line, err)
		}
	}
	// The log has the first failure of a kind, and one without a key ends at both ends.
	refused(key.ReplaceAllString(line, " key=0123456789abcdef"), bridge.Name(), "the module says: the client has another key")
	refused(key.ReplaceAllString(line, ""), "client-*", "the module says: the bridge line has no key")
}

// logged reports whether one of the files that match has a text.
func logged(t *testing.T, pattern, text string) bool {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(log), text)
	})
}

// pause is how long to wait before looking again.
func pause() <-chan time.Time { return time.After(20 * time.Millisecond) }

// TestModuleCrash lets the bridge's module crash under a living client: in the same
// process the next instance has the key that the first one left, and the client
// finds its way back.
func TestModuleCrash(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	bridge, plugins := startArgtest(ctx, t)
	line, err := bridge.Line("argtest")
	if err != nil {
		t.Fatal(err)
	}
	client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins, BridgeLines: []string{line}})
	fetch(ctx, t, web, client)
	before := transportProcess(t, bridge.Node)

	crash(t, bridge.Address("argtest"))
	if _, err := bridge.WaitLog(ctx, "pt.log", regexp.MustCompile(`an instance that carried connections has failed`)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	fetch(ctx, t, web, client)
	t.Logf("the client was back %v after the crash", time.Since(begin).Round(time.Millisecond))
	if after := transportProcess(t, bridge.Node); after != before {
		t.Errorf("the bridge's transport was %v and is %v: it did not live through the crash", before, after)
	}
}

// crash makes the instance of an argtest at a bridge crash, and waits for that.
func crash(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const arguments = "crash=server"
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(arguments))), arguments...)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n > 0 {
		t.Errorf("the bridge sent %d bytes, and %v", n, err)
	}
}
