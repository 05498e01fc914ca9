package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestBufferAgainstModel compares a buffer with a plain slice, under random
// operations.
func TestBufferAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := new(buffer)
		var model []byte
		written := 0
		for range 400 {
			if rng.IntN(2) == 0 {
				data := numbers(written, rng.IntN(largeRing/3))
				n, err := b.write(pieces(data, rng.IntN(100), 0, rng.IntN(5000)))
				want := min(len(data), largeRing-len(model))
				if n != want || (err == ErrWouldBlock) != (want == 0 && len(data) > 0) {
					t.Fatalf("seed %d: wrote %d of %d into %d: %v", seed, n, len(data), len(model), err)
				}
				model = append(model, data[:n]...)
				written += n
				continue
			}
			out := make([]byte, rng.IntN(largeRing/3))
			n, err := b.read(pieces(out, 0, rng.IntN(300)))
			want := min(len(out), len(model))
			if n != want || (err == ErrWouldBlock) != (len(model) == 0) {
				t.Fatalf("seed %d: read %d into %d from %d: %v", seed, n, len(out), len(model), err)
			}
			if !bytes.Equal(out[:n], model[:n]) {
				t.Fatalf("seed %d: wrong bytes", seed)
			}
			model = model[n:]
		}
		if b.len() != len(model) {
			t.Fatalf("seed %d: %d bytes in it, not %d", seed, b.len(), len(model))
		}
	}
}

func TestBufferEnds(t *testing.T) {
	full := func() *buffer {
		b := new(buffer)
		if n, err := b.write([][]byte{numbers(0, 100)}); n != 100 || err != nil {
			t.Fatal(n, err)
		}
		return b
	}
	out := make([]byte, 200)
	reason := errors.New("a reason")

	b := full()
	b.end(reason)
	b.end(io.EOF) // the first one counts
	if n, err := b.read([][]byte{out}); n != 100 || err != nil {
		t.Errorf("what was there: %d, %v", n, err)
	}
	if n, err := b.read([][]byte{out}); n != 0 || err != reason {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := b.write([][]byte{out}); n != 0 || err != syscall.EPIPE {
		t.Errorf("write after the end: %d, %v", n, err)
	}

	b = full()
	b.drop()
	if n, err := b.read([][]byte{out}); n != 0 || err != io.ErrClosedPipe {
		t.Errorf("read of a dropped one: %d, %v", n, err)
	}
	if n, err := b.write([][]byte{out}); n != 0 || err != syscall.EPIPE {
		t.Errorf("write to a dropped one: %d, %v", n, err)
	}

	b = full()
	b.swallow()
	for range 1000 {
		if n, err := b.write([][]byte{out}); n != len(out) || err != nil {
			t.Fatalf("write to one that swallows: %d, %v", n, err)
		}
	}
	if b.ring != nil {
		t.Error("an empty buffer holds memory")
	}
}

// TestBufferWakes: whoever waits is woken by whatever changes that.
func TestBufferWakes(t *testing.T) {
	for name, change := range map[string]func(b *buffer){
		"write":   func(b *buffer) { b.write([][]byte{{1}}) },
		"end":     func(b *buffer) { b.end(io.EOF) },
		"drop":    func(b *buffer) { b.drop() },
		"swallow": func(b *buffer) { b.swallow() },
	} {
		b, s := new(buffer), NewSignal()
		if b.awaitRead(s) {
			t.Fatal("an empty buffer is ready")
		}
		if change(b); len(s) != 1 {
			t.Errorf("%s does not wake a reader", name)
		}
		if !b.awaitRead(NewSignal()) {
			t.Errorf("after %s it is not ready for reading", name)
		}
	}
	for name, change := range map[string]func(b *buffer){
		"read":    func(b *buffer) { b.read([][]byte{make([]byte, 1)}) },
		"end":     func(b *buffer) { b.end(io.EOF) },
		"drop":    func(b *buffer) { b.drop() },
		"swallow": func(b *buffer) { b.swallow() },
	} {
		b, s := new(buffer), NewSignal()
		b.write([][]byte{make([]byte, largeRing)})
		if b.awaitWrite(s) {
			t.Fatal("a full buffer is ready")
		}
		if change(b); len(s) != 1 {
			t.Errorf("%s does not wake a writer", name)
		}
		if !b.awaitWrite(NewSignal()) {
			t.Errorf("after %s it is not ready for writing", name)
		}
	}
	b, s := new(buffer), NewSignal()
	b.awaitRead(s)
	b.awaitRead(s)
	if len(b.readers) != 1 {
		t.Error("one waker is there twice")
	}
	b.forget(s)
	if b.end(io.EOF); len(s) != 0 {
		t.Error("a forgotten waker was woken")
	}
}

func TestQueue(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var q queue
		pushed, popped := 0, 0
		for range 300 {
			if rng.IntN(2) == 0 {
				n := rng.IntN(3 * largeRing / 2)
				q.push(pieces(numbers(pushed, n), 0, rng.IntN(10)))
				pushed += n
			} else if q.size > 0 {
				front := q.front()[0]
				n := 1 + rng.IntN(len(front))
				if !bytes.Equal(front[:n], numbers(popped, n)) {
					t.Fatalf("seed %d: wrong bytes at %d", seed, popped)
				}
				q.pop(n)
				popped += n
			}
			if q.size != pushed-popped {
				t.Fatalf("seed %d: size %d, not %d", seed, q.size, pushed-popped)
			}
		}
		if q.clear(); q.size != 0 || q.blocks != nil {
			t.Errorf("seed %d: not empty", seed)
		}
	}
}
