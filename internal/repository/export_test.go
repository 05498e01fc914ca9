package repository

import (
	"context"
	"log/slog"
	"time"

	"waterproxy/internal/mirror"
)

// Verify verifies a repository's metadata, from a root to the targets, as a look does, and
// keeps it in dir. It returns how many files there are.
func Verify(ctx context.Context, dir string, root []byte, from mirror.Mirror) (files int, err error) {
	t, err := openTrust(dir, root, time.Now().UTC(), slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	timestamp, err := t.timestamp(ctx, from)
	if err == nil {
		err = t.refresh(ctx, from, timestamp)
	}
	if err != nil {
		return 0, err
	}
	return len(t.files()), nil
}
