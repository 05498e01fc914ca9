package stream

import (
	"io"
	"sync"
	"testing"
)

// TestSocketHammer has many sockets wait at once, in both directions, woken by
// small and large writes.
func TestSocketHammer(t *testing.T) {
	const conns, size = 50, 300_000
	var wg sync.WaitGroup
	for range conns {
		s, far := sockets(t)
		wg.Go(func() { // echo, as a module would
			shovel(s, s)
		})
		wg.Go(func() {
			for at := 0; at < size; {
				n := min(1+at%7001, size-at)
				if _, err := far.Write(numbers(at, n)); err != nil {
					t.Error(err)
					return
				}
				at += n
			}
			far.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(far)
			if err != nil || string(got) != string(numbers(0, size)) {
				t.Errorf("%d bytes came back: %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// TestAwaitAgain: a waker that was woken can wait again, with several waiting for
// the same thing, and for each direction by itself.
func TestAwaitAgain(t *testing.T) {
	s, far := sockets(t)
	for range 100 {
		a, b := NewSignal(), NewSignal()
		if s.Await(In, a) || s.Await(In, b) || s.Await(In, a) {
			t.Fatal("ready for nothing")
		}
		if !s.Await(Out, a) {
			t.Fatal("not ready for writing")
		}
		far.Write([]byte{1})
		<-a
		<-b
		if !s.Await(In, a) {
			t.Fatal("woken, but not ready")
		}
		if n, err := s.Read([][]byte{make([]byte, 10)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}

// TestCloseWakes those who wait.
func TestCloseWakes(t *testing.T) {
	s, _ := sockets(t)
	w := NewSignal()
	if s.Await(In, w) {
		t.Fatal("ready for nothing")
	}
	s.Close()
	<-w
	if !s.Await(In, w) {
		t.Error("a closed socket is not ready")
	}
	if _, err := s.Read([][]byte{make([]byte, 1)}); err == nil || err == ErrWouldBlock || err == io.EOF {
		t.Errorf("read: %v", err)
	}
}
