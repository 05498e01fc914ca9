package ptlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// gate is a writer that takes a write when it is let through, or at any time once it is
// open.
type gate struct {
	pass chan struct{}
	locked
}

func newGate() *gate { return &gate{pass: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.pass
	return g.locked.Write(p)
}

func (g *gate) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.String()
}

// failing is a writer that takes so many bytes, and then fails until there is room
// again.
type failing struct {
	locked
	room     int
	err      error
	attempts int
}

func (f *failing) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	n := min(len(p), f.room)
	f.buf.Write(p[:n])
	f.room -= n
	if n < len(p) {
		return n, f.err
	}
	return n, nil
}

func lost(n int) []byte { return fmt.Appendf(nil, "%d lost\n", n) }

func flush(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Flush(); err != nil {
		t.Fatal(err)
	}
}

// What a writer takes is all lines, in order, and no goroutine is left.
func TestQueueOrder(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out locked
	q := NewQueue(&out, lost)
	var want strings.Builder
	line := make([]byte, 0, 100)
	for i := range 1000 {
		line = fmt.Appendf(line[:0], "line %d\n", i) // the memory is the caller's again
		want.Write(line)
		if i%7 == 0 {
			q.Keep(line)
		} else {
			q.Write(line)
		}
		if i%100 == 0 {
			flush(t, q)
		}
	}
	flush(t, q)
	if out.buf.String() != want.String() {
		t.Errorf("the writer got %q", out.buf.String())
	}
}

// While the writer blocks no caller does. What is over the limits is dropped and
// counted, what is to be kept is not.
func TestQueueBlocked(t *testing.T) {
	for name, size := range map[string]int{"lines": 20, "bytes": 1000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newGate()
				q := NewQueue(out, lost)
				const n = 10000
				for i := range n {
					fmt.Fprintf(q, "%-*d\n", size-1, i)
					if i == n/2 {
						q.Keep([]byte("kept\n"))
					}
				}
				if len(q.lines) > queueLines+1 || q.bytes > queueBytes+len("kept\n") {
					t.Errorf("%d lines of %d bytes are queued", len(q.lines), q.bytes)
				}
				close(out.pass)
				flush(t, q)
				q.Write([]byte("after\n"))
				flush(t, q)
				got := strings.Split(strings.TrimSpace(out.text()), "\n")
				written := len(got) - 3
				want := make([]string, written, len(got))
				for i := range want {
					want[i] = fmt.Sprintf("%-*d", size-1, i)
				}
				want = append(want, "kept", strconv.Itoa(n-written)+" lost", "after")
				if !slices.Equal(got, want) {
					t.Errorf("%d lines, the last of which are %q", len(got), got[max(0, len(got)-5):])
				}
				if written < queueLines/2 && written*size < queueBytes/2 {
					t.Errorf("no more than %d lines were kept", written)
				}
			})
		})
	}
}

// A writer that is always a little too slow gets few reports, each of many lines, and
// every line is either written or counted.
func TestQueueSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newGate()
		q := NewQueue(out, lost)
		const n = 50000
		for i := range n {
			fmt.Fprintf(q, "line %d\n", i)
			if i%2 == 0 {
				out.pass <- struct{}{}
			}
		}
		close(out.pass)
		flush(t, q)
		reports, count, last := 0, 0, -1
		for line := range strings.Lines(out.text()) {
			var i int
			if _, err := fmt.Sscanf(line, "line %d\n", &i); err == nil {
				if i != last+1 {
					t.Fatalf("%d follows on %d", i, last)
				}
				last = i
			} else if _, err := fmt.Sscanf(line, "%d lost\n", &i); err == nil {
				reports++
				last += i
			} else {
				t.Fatalf("%q", line)
			}
			count++
		}
		if last != n-1 || reports == 0 || reports > n/queueLines {
			t.Errorf("%d reports in %d lines, the last is %d", reports, count, last)
		}
	})
}

// A line that no Queue could hold does not stop the rest.
func TestQueueLongLine(t *testing.T) {
	var out locked
	q := NewQueue(&out, lost)
	long := strings.Repeat("x", queueBytes-1) + "\n"
	io.WriteString(q, long)
	flush(t, q)
	io.WriteString(q, "x"+long)
	io.WriteString(q, "next\n")
	flush(t, q)
	if out.buf.String() != long+"1 lost\nnext\n" {
		t.Errorf("the writer got %d bytes", out.buf.Len())
	}
}

// A full disk tears no line, costs one report and no busy loop, and lines come when
// there is room again.
func TestQueueFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &failing{room: 10, err: syscall.ENOSPC}
		q := NewQueue(out, lost)
		var failures []error
		q.failed = func(err error) { failures = append(failures, err) }
		io.WriteString(q, "first\nsecond\n")
		io.WriteString(q, "third\n")
		if err := q.Flush(); err == nil {
			t.Error("no error of Flush")
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(failures) != 1 || failures[0] != syscall.ENOSPC {
			t.Errorf("failures: %v", failures)
		}
		if out.attempts > 40 {
			t.Errorf("%d attempts in half a minute", out.attempts)
		}
		for range queueLines + 5 {
			io.WriteString(q, "x\n")
		}
		out.mu.Lock()
		out.room = 1 << 20
		out.mu.Unlock()
		time.Sleep(retryPause) // of which this is the test
		flush(t, q)
		want := "first\nsecond\nthird\n" + strings.Repeat("x\n", queueLines-1) + "6 lost\n"
		if got := out.buf.String(); got != want {
			t.Errorf("the writer got %d bytes, %q", len(got), got[:30])
		}
		if len(failures) != 1 {
			t.Errorf("failures: %v", failures)
		}
	})
}

// A reader that has gone gets no more attempts.
func TestQueueClosed(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, err := range []error{&os.PathError{Op: "write", Err: syscall.EPIPE}, os.ErrClosed, io.ErrClosedPipe} {
		out := &failing{err: err}
		q := NewQueue(out, lost)
		q.failed = func(err error) { t.Error(err) }
		for range 100 {
			io.WriteString(q, "x\n")
			q.Keep([]byte("y\n"))
		}
		flush(t, q)
		io.WriteString(q, "x\n")
		q.Keep([]byte("y\n"))
		flush(t, q)
		if out.attempts != 1 {
			t.Errorf("%v: %d attempts", err, out.attempts)
		}
	}
}

// Flush waits as long as there is progress, up to its limit.
func TestQueueFlush(t *testing.T) {
	for name, test := range map[string]struct {
		pause   time.Duration // from one line to the next
		lines   int
		atLeast time.Duration
		atMost  time.Duration
		fails   bool
	}{
		"idle":   {0, 0, 0, 0, false},
		"steady": {flushStall / 2, 5, flushStall * 5 / 2, flushStall * 5 / 2, false},
		"stuck":  {time.Hour, 5, flushStall, 2 * flushStall, true},
		"slow":   {flushStall / 2, 100, flushLimit, flushLimit + flushStall, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newGate()
				q := NewQueue(out, lost)
				for range test.lines {
					io.WriteString(q, "x\n")
				}
				begin := time.Now()
				over := make(chan struct{})
				go func() {
					for range test.lines {
						select {
						case <-time.After(test.pause):
							out.pass <- struct{}{}
						case <-over:
							return
						}
					}
				}()
				err := q.Flush()
				if took := time.Since(begin); (err != nil) != test.fails || took < test.atLeast || took > test.atMost {
					t.Errorf("%v after %v", err, took)
				}
				close(over)
				synctest.Wait()
				close(out.pass)
				flush(t, q)
			})
		})
	}
}

// Lines of many callers are whole, and in each caller's order.
func TestQueueConcurrent(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	q := NewQueue(w, lost)
	read := make(chan []byte)
	go func() {
		text, err := io.ReadAll(r)
		read <- bytes.Clone(text)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Error(err)
		}
	}()
	const callers, each = 8, 300
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				fmt.Fprintf(q, "%d %d %s.\n", c, i, strings.Repeat("x", 20*i)) // some longer than PIPE_BUF
			}
		})
	}
	wg.Wait()
	flush(t, q)
	w.Close()
	next, dropped := make([]int, callers), 0
	written := 0
	for line := range strings.Lines(string(<-read)) {
		var c, i int
		if _, err := fmt.Sscanf(line, "%d lost\n", &i); err == nil {
			dropped += i
			continue
		}
		if _, err := fmt.Sscanf(line, "%d %d", &c, &i); err != nil || i < next[c] || line != fmt.Sprintf("%d %d %s.\n", c, i, strings.Repeat("x", 20*i)) {
			t.Fatalf("%q", line)
		}
		next[c] = i + 1
		written++
	}
	if written+dropped != callers*each {
		t.Errorf("%d lines written, %d dropped", written, dropped)
	}
}
