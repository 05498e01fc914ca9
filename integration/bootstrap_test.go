package integration

import "testing"

// TestBootstrap bootstraps a client through the transport plain, to a bridge
// that has an ORPort only, and fetches a file.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	p := startPair(ctx, t, "plain", waterproxy(t))
	fetch(ctx, t, web, p.client)
}
