package integration

import (
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// exitTime bounds what takes no time unless the machine has other work: the end of a
// transport after that of its tor, for one. It is less than the time for which a transport
// waits for its connections by default, so that one that waits for them shows.
const exitTime = 20 * time.Second

// TestExitWithTor kills both tors with SIGKILL while they have connections:
// neither gets to stop its transport in order, and both transports must end all
// the same.
func TestExitWithTor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	p := startPair(ctx, t, "plain", waterproxy(t))
	fetch(ctx, t, web, p.client)

	for _, node := range []*tornet.Node{p.client.Node, p.bridge.Node} {
		process := transportProcess(t, node)
		begin := time.Now()
		if err := node.Kill(ctx, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for process.Alive() {
			if time.Since(begin) > exitTime {
				t.Fatalf("%s: %v is alive %v after its tor", node.Name(), process, exitTime)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("%s: the transport ended %v after its tor", node.Name(), time.Since(begin).Round(time.Millisecond))
	}
}
