package integration

import (
	"testing"
	"time"
)

// TestBulk carries 64 MiB each way and compares their SHA-256.
func TestBulk(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 64<<20)
	p := startPair(ctx, t, "plain", waterproxy(t))
	fetch(ctx, t, web, p.client)

	begin := time.Now()
	if err := web.Upload(ctx, p.client.HTTP()); err != nil {
		t.Fatalf("uploading through %s: %v", p.client.Name(), err)
	}
	logSpeed(t, "upload", web.Size(), time.Since(begin))
}
