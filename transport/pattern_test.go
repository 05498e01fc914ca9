package transport

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// pattern is an endless stream of bytes that differs by where it starts.
type pattern uint32

// at returns up to n bytes of the stream from pos on.
func (p pattern) at(pos int64, n int) []byte {
	b := patternBytes()
	start := int((int64(p) + pos) % patternSize)
	return b[start:min(start+n, patternSize)]
}

// bytes returns the first n bytes of the stream.
func (p pattern) bytes(n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		b = append(b, p.at(int64(len(b)), n-len(b))...)
	}
	return b
}

// write writes the first n bytes of the stream, in pieces of chunk.
func (p pattern) write(w io.Writer, n int64, chunk func() int) (done int64, err error) {
	for done < n {
		k, err := w.Write(p.at(done, int(min(n-done, int64(chunk())))))
		done += int64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// check reads to the end of r, or n bytes if that is not negative, and compares.
// The error is nil at the end of the stream.
func (p pattern) check(r io.Reader, n int64, chunk func() int) (done int64, err error) {
	buf := make([]byte, 64<<10)
	for n < 0 || done < n {
		size := min(chunk(), len(buf))
		if n >= 0 {
			size = int(min(int64(size), n-done))
		}
		k, err := r.Read(buf[:size])
		for got := buf[:k]; len(got) > 0; {
			want := p.at(done, len(got))
			if !bytes.Equal(got[:len(want)], want) {
				return done, fmt.Errorf("wrong bytes after %d good ones", done)
			}
			done += int64(len(want))
			got = got[len(want):]
		}
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// always is a chunk size that does not change.
func always(n int) func() int { return func() int { return n } }

// progress counts what has been written.
type progress struct {
	io.Writer
	n atomic.Int64
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.n.Add(int64(n))
	return n, err
}

// settled waits until nothing has been written for a while, and returns how much
// has been by then.
func (p *progress) settled(t testing.TB) int64 {
	t.Helper()
	const quiet = 300 * time.Millisecond
	before := p.n.Load()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		time.Sleep(quiet)
		now := p.n.Load()
		if now == before {
			return now
		}
		before = now
	}
	t.Fatal("the writer does not come to rest")
	return 0
}
