package payload

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// batches gives each of several payloads in a call of its own, and then the error.
func batches(end error, payloads ...string) Batch {
	return func(use func([]byte) error) error {
		if len(payloads) == 0 {
			return end
		}
		first := payloads[0]
		payloads = payloads[1:]
		return use([]byte(first))
	}
}

var errCut = errors.New("cut")

// What is left comes first, then what batches bring, and then how they end.
func TestWriteTo(t *testing.T) {
	for _, end := range []error{io.EOF, errCut} {
		var got bytes.Buffer
		r := Reader{Left: []byte("ab")}
		n, err := r.WriteTo(&got, batches(end, "cd", "", "e"))
		if got.String() != "abcde" || n != 5 || (err != nil) != (end == errCut) || end == errCut && err != end {
			t.Errorf("%v: %q, %d bytes, %v", end, &got, n, err)
		}
	}
	r, end := Reader{Left: []byte("ab")}, batches(io.EOF, "cd")
	closed, w := io.Pipe()
	if err := closed.CloseWithError(errCut); err != nil {
		t.Fatal(err)
	}
	if n, err := r.WriteTo(w, end); n != 0 || err != errCut {
		t.Errorf("to a writer that fails: %d bytes, %v", n, err)
	}
}

func TestRead(t *testing.T) {
	r, batch := Reader{Left: []byte("ab")}, batches(errCut, "cde", "")
	var got []byte
	for {
		buf := make([]byte, 2)
		n, err := r.Read(buf, batch)
		got = append(got, buf[:n]...)
		if err != nil {
			if string(got) != "abcde" || err != errCut || r.Left != nil {
				t.Errorf("%q, %v, left %q", got, err, r.Left)
			}
			return
		}
	}
}

func TestInBursts(t *testing.T) {
	var sizes []int
	part := func(p []byte) error {
		if sizes = append(sizes, len(p)); len(sizes) == 3 {
			return errCut
		}
		return nil
	}
	if n, err := InBursts(make([]byte, 3*Burst), part); n != 2*Burst || err != errCut || !slices.Equal(sizes, []int{Burst, Burst, Burst}) {
		t.Errorf("%d bytes, %v, %v", n, err, sizes)
	}
	sizes = nil
	if n, err := InBursts(make([]byte, Burst+1), part); n != Burst+1 || err != nil || !slices.Equal(sizes, []int{Burst, 1}) {
		t.Errorf("%d bytes, %v, %v", n, err, sizes)
	}
}
