package integration

import "testing"

// TestObfs4proxy fetches a file through the real obfs4proxy: it shows that the
// network and these tests work, whatever our executable does.
func TestObfs4proxy(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	p := startPair(ctx, t, "obfs4", program(t, "obfs4proxy"))
	fetch(ctx, t, web, p.client)
}
