package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"waterproxy/internal/reload"
)

// watchInterval is how often files are looked at for changes.
const watchInterval = time.Second

// notifyHangUp catches SIGHUP from now on: it means to load modules again, and must
// not end a process that is not ready for that yet.
func notifyHangUp() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// keepLoaded loads modules again when a signal comes, and, if watch is set, when
// their files change, until ctx ends.
func keepLoaded(ctx context.Context, set *reload.Set, watch bool, hangUp <-chan os.Signal) {
	if watch {
		go set.Watch(ctx, watchInterval)
	}
	go func() {
		for {
			select {
			case <-hangUp:
				set.Reload(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
}
