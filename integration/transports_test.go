package integration

import (
	"path/filepath"
	"regexp"
	"testing"

	"waterproxy/internal/tornet"
)

// TestTwoTransports has two transports on each plugin line: one process must
// serve both, at either end. The client uses each of them, to a bridge of its
// own, for it takes a descriptor from every bridge that it is given.
func TestTwoTransports(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	module := builtFile(t, filepath.Join("..", "modules", "built", "plain.wasm"))
	names := []string{"plain", "second"}
	plugins := []tornet.Plugin{{
		Transports: names,
		Exec:       []string{waterproxy(t), "-module", "second=" + module},
	}}
	var lines []string
	for _, name := range names {
		bridge := startBridge(ctx, t, tornet.BridgeOptions{Plugins: plugins})
		transportProcess(t, bridge.Node)
		line, err := bridge.Line(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins, BridgeLines: lines})
	for _, line := range lines {
		fingerprint := bridgeFingerprint(t, line)
		if _, err := client.WaitLog(ctx, "notice.log", newDescriptor(fingerprint)); err != nil {
			t.Fatal(err)
		}
	}
	transportProcess(t, client.Node)
	fetch(ctx, t, web, client)
}

// bridgeFingerprint returns the fingerprint in a bridge line.
func bridgeFingerprint(t *testing.T, line string) string {
	t.Helper()
	fingerprint := regexp.MustCompile(`\b[0-9A-F]{40}\b`).FindString(line)
	if fingerprint == "" {
		t.Fatalf("no fingerprint in %q", line)
	}
	return fingerprint
}

// newDescriptor matches what tor logs when it has fetched a bridge's
// descriptor from the bridge.
func newDescriptor(fingerprint string) *regexp.Regexp {
	return regexp.MustCompile(`new bridge descriptor .*` + fingerprint)
}
