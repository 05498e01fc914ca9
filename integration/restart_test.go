package integration

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// TestBridgeRestart kills the bridge's tor, and with it its transport, under a
// living client and starts it again: the client must find its way back.
func TestBridgeRestart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	p := startPair(ctx, t, "plain", waterproxy(t))
	fetch(ctx, t, web, p.client)

	before := transportProcess(t, p.client.Node)
	lines := p.bridge.Lines()
	if err := p.bridge.Kill(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.bridge.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("the bridge was ready again after %v", time.Since(begin).Round(time.Millisecond))
	if now := p.bridge.Lines(); !slices.Equal(now, lines) {
		t.Errorf("the bridge lines were %q and are %q after the restart", lines, now)
	}
	begin = time.Now()
	fetch(ctx, t, web, p.client)
	t.Logf("the client was back %v after the bridge", time.Since(begin).Round(time.Millisecond))
	if after := transportProcess(t, p.client.Node); after != before {
		t.Errorf("the client's transport was %v and is %v: it did not live through the restart", before, after)
	}
}

// transportProcess returns the one transport process that a tor must have.
func transportProcess(t *testing.T, node *tornet.Node) tornet.Process {
	t.Helper()
	processes, err := node.TransportProcesses()
	if err != nil {
		t.Fatal(err)
	}
	if len(processes) != 1 {
		t.Fatalf("%s has %d transport processes, want one: %v", node.Name(), len(processes), processes)
	}
	return processes[0]
}
