package transport

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// splicedModules are those whose connections are spliced.
var splicedModules = append(slices.Clone(connModules), "plain"+inOne)

// TestSplice joins connections of every kind to one through a module, with bytes
// from before, from meanwhile and from after, and ends in either order.
func TestSplice(t *testing.T) {
	const before, size = 20_000, 400_000
	for kind, pair := range streamPairs {
		for _, name := range splicedModules {
			link := clientLink(t, quietConfig(t, name))
			for _, userFirst := range []bool{true, false} {
				order := map[bool]string{true: "/user ends first", false: "/wire ends first"}[userFirst]
				t.Run(kind+"/"+name+order, func(t *testing.T) {
					near, far := link.connect(t)
					peer, user := pair(t)
					half, canHalfClose := user.(duplex)
					deadline := time.Now().Add(patience)
					far.SetDeadline(deadline)
					user.SetDeadline(deadline)
					up, down := pattern(1), pattern(2)

					// Before: what the old user has written, and what it has not read.
					if _, err := up.write(near, before, always(3000)); err != nil {
						t.Fatal(err)
					}
					if _, err := down.write(far, before, always(4000)); err != nil {
						t.Fatal(err)
					}
					spliced := make(chan error, 1)
					go func() { spliced <- near.Splice(peer) }()
					upDone := make(chan struct{})
					downDone := make(chan struct{})
					err := together(func() error {
						if !userFirst {
							<-downDone
						}
						_, err := (up + before).write(user, size, always(5000))
						if err == nil && canHalfClose {
							err = half.CloseWrite()
						}
						return err
					}, func() error {
						if userFirst {
							<-upDone
						}
						_, err := (down + before).write(far, size, always(6000))
						return errors.Join(err, far.CloseWrite())
					}, func() error {
						defer close(upDone)
						wholly := int64(-1)
						if !canHalfClose {
							wholly = before + size
						}
						n, err := up.check(far, wholly, always(7000))
						return complete(n, before+size, err)
					}, func() error {
						defer close(downDone)
						wholly := int64(-1)
						if !canHalfClose {
							wholly = before + size
						}
						n, err := down.check(user, wholly, always(8000))
						return complete(n, before+size, err)
					})
					if err != nil {
						t.Fatal(err)
					}
					user.Close()
					far.Close()
					within(t, "Splice", func() {
						if err := <-spliced; err != nil {
							t.Errorf("Splice: %v", err)
						}
					})
				})
			}
		}
	}
}

// TestSpliceHalfClosed: what was ended before stays so.
func TestSpliceHalfClosed(t *testing.T) {
	for _, name := range splicedModules {
		t.Run(name, func(t *testing.T) {
			near, far := clientLink(t, quietConfig(t, name)).connect(t)
			peer, user := tcpPair(t)
			far.SetDeadline(time.Now().Add(patience))
			user.SetDeadline(time.Now().Add(patience))
			up, down := pattern(1), pattern(2)
			if _, err := up.write(near, 50_000, always(5000)); err != nil {
				t.Fatal(err)
			}
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			spliced := make(chan error, 1)
			go func() { spliced <- near.Splice(peer) }()
			if n, err := up.check(far, -1, always(5000)); complete(n, 50_000, err) != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			if _, err := down.write(far, 200_000, always(5000)); err != nil {
				t.Fatal(err)
			}
			far.Close()
			if n, err := down.check(user, -1, always(5000)); complete(n, 200_000, err) != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			user.Close()
			within(t, "Splice", func() {
				if err := <-spliced; err != nil {
					t.Errorf("Splice: %v", err)
				}
			})
		})
	}
}

// TestSpliceAfterEnd: the wire has closed, and the module may be gone, before
// there is somebody to splice to; the bytes are still there.
func TestSpliceAfterEnd(t *testing.T) {
	for kind, pair := range streamPairs {
		for _, name := range append(slices.Clone(splicedModules), "evil_return_0_v1") {
			t.Run(kind+"/"+name, func(t *testing.T) {
				near, far := clientLink(t, quietConfig(t, name)).connect(t)
				peer, user := pair(t)
				user.SetDeadline(time.Now().Add(patience))
				down, size := pattern(9), int64(40_000)
				if name == "evil_return_0_v1" {
					size = 0
				}
				if _, err := down.write(far, size, always(5000)); err != nil {
					t.Fatal(err)
				}
				far.Close()
				near.CloseWrite()
				// The module is done once it has read all there is.
				for end := time.Now().Add(patience); near.Stats().ToCaller < size; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%+v", near.Stats())
					}
				}
				spliced := make(chan error, 1)
				go func() { spliced <- near.Splice(peer) }()
				wholly := int64(-1)
				if _, ok := user.(duplex); !ok {
					wholly = size // the end shows when both have ended
				}
				if n, err := down.check(user, wholly, always(5000)); complete(n, size, err) != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				user.Close()
				within(t, "Splice", func() {
					if err := <-spliced; err != nil {
						t.Errorf("Splice: %v", err)
					}
				})
			})
		}
	}
}

// TestSpliceAbort: Abort ends a splice.
func TestSpliceAbort(t *testing.T) {
	for _, name := range splicedModules {
		t.Run(name, func(t *testing.T) {
			near, _ := clientLink(t, quietConfig(t, name)).connect(t)
			peer, user := tcpPair(t)
			user.SetDeadline(time.Now().Add(patience))
			spliced := make(chan error, 1)
			go func() { spliced <- near.Splice(peer) }()
			if _, err := user.Write([]byte("something")); err != nil {
				t.Fatal(err)
			}
			within(t, "Abort", func() { near.Abort() })
			within(t, "Splice", func() { <-spliced })
			if _, err := pattern(0).check(user, -1, always(100)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the peer's connection lives on: %v", err)
			}
		})
	}
}
