package transport

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// careful and posix modules, in C and in Go, with small and with large buffers.
var bulkModules = []string{"plain", "plain_v0", "plain_16k_v1", "plain_blocking_v1", "posix_v1", "delayed_v1", "plain" + inOne}

// TestSlowReader stops reading in the middle of a large transfer: the writer has
// to stop too, with little in memory, and everything arrives in the end.
func TestSlowReader(t *testing.T) {
	const total = 64 << 20
	for _, name := range bulkModules {
		size := int64(total)
		if name == "delayed_v1" {
			size = 4 << 20 // it carries 64 KiB in 20 ms
		}
		link := clientLink(t, quietConfig(t, name))
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/up=%v", name, up), func(t *testing.T) {
				near, far := link.connect(t)
				from, to := duplex(near), far
				if !up {
					from, to = to, from
				}
				deadline := time.Now().Add(time.Minute)
				near.SetDeadline(deadline)
				far.SetDeadline(deadline)
				before := heap()
				p := pattern(7)
				sent := make(chan error, 1)
				written := make(chan int64, 1)
				w := &progress{Writer: from}
				go func() {
					n, err := p.write(w, size, always(64<<10))
					if err == nil {
						err = from.CloseWrite()
					}
					written <- n
					sent <- err
				}()
				read, err := p.check(to, size/16, always(32<<10))
				if err != nil {
					t.Fatal(err)
				}
				held := w.settled(t)
				if name != "delayed_v1" && held == size {
					t.Error("everything was taken although nobody reads it")
				}
				if grown := int64(heap()) - int64(before); grown > 24<<20 {
					t.Errorf("%d MiB of memory are held for a reader that has stopped", grown>>20)
				}
				rest, err := (p + pattern(read)).check(to, -1, always(64<<10))
				if err != nil {
					t.Fatalf("after %d bytes: %v", read+rest, err)
				}
				if n := <-written; n != size || read+rest != size {
					t.Errorf("%d bytes were written and %d read, not %d", n, read+rest, size)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestBothDirectionsFull has an echo server that writes back as it reads, and a
// client that only reads after it has written all: every buffer on the way fills
// up, until only what the runtime holds for the client lets things move. What a
// client may have under way is bounded, so it is told that its writes would
// block; reading must then free them.
func TestBothDirectionsFull(t *testing.T) {
	const total = 32 << 20
	for _, name := range []string{"plain", "plain_v0", "plain_16k_v1", "posix_v1", "posix_nomarker_v1", "plain" + inOne} {
		link := clientLink(t, quietConfig(t, name))
		t.Run(name, func(t *testing.T) {
			near, far := link.connect(t)
			deadline := time.Now().Add(time.Minute)
			near.SetDeadline(deadline)
			far.SetDeadline(deadline)
			go func() {
				io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far})
				far.CloseWrite()
			}()
			p := pattern(3)
			w := &progress{Writer: near}
			wrote := make(chan error, 1)
			go func() {
				_, err := p.write(w, total, always(64<<10))
				if err == nil {
					err = near.CloseWrite()
				}
				wrote <- err
			}()
			if w.settled(t) == total {
				t.Error("everything was taken although nobody reads the answer")
			}
			if n, err := p.check(near, -1, always(64<<10)); err != nil || n != total {
				t.Errorf("%d of %d bytes came back: %v", n, total, err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEchoSmall: writing all of a moderate amount before reading any of it back
// works, as it does over plain TCP.
func TestEchoSmall(t *testing.T) {
	const total = 256 << 10
	for _, name := range []string{"plain", "plain_v0", "plain_1k_v1", "posix_v1", "rust_plain_v1", "plain" + inOne} {
		t.Run(name, func(t *testing.T) {
			near, far := clientLink(t, quietConfig(t, name)).connect(t)
			near.SetDeadline(time.Now().Add(time.Minute))
			go func() {
				io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far})
				far.CloseWrite()
			}()
			p := pattern(5)
			if _, err := p.write(near, total, always(total)); err != nil {
				t.Fatal(err)
			}
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := p.check(near, -1, always(64<<10)); err != nil || n != total {
				t.Errorf("%d of %d bytes came back: %v", n, total, err)
			}
		})
	}
}

// heap returns the bytes that are in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
