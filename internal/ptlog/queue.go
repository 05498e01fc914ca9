package ptlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// queueBytes and queueLines bound what a Queue holds.
	queueBytes = 256 << 10
	queueLines = 4096
	// retryPause is the time from a failed write to the next attempt.
	retryPause = time.Second
	// failurePause is the least time between two calls of Queue.failed.
	failurePause = time.Minute
	// flushStall and flushLimit bound how long Flush waits: while no line is taken,
	// and altogether.
	flushStall = time.Second
	flushLimit = 5 * time.Second
)

// Queue passes whole lines on to a writer, in order, and never blocks its callers: not
// if the writer blocks (a pipe that is not read, a stopped terminal), and not if it
// fails (a full disk). It holds at most 256 KiB and 4096 lines. Lines that come while
// it is full are dropped, until it is half empty; a line in their place reports how
// many they were. A line of more than 256 KiB is dropped.
//
// A write that fails is repeated, from where it stopped, once a second, so that no line
// is torn. If the other end is closed, the Queue discards everything from then on.
//
// A goroutine runs while there are lines to write, and no longer. A Queue is safe for
// concurrent use.
type Queue struct {
	w io.Writer

	mu      sync.Mutex
	report  func(lost int) []byte // returns the line that reports dropped lines
	failed  func(error)           // is called about a failed write, at most once a minute
	lines   [][]byte
	bytes   int           // in lines
	taken   uint64        // lines that w has taken
	lost    int           // lines dropped since the last report
	full    bool          // until half of the limits
	closed  bool          // w is
	written chan struct{} // closed once all is written; nil if nothing is being written
}

// NewQueue returns an empty Queue. report returns the line, with its line break, that
// reports how many lines were dropped; it must not use the Queue.
func NewQueue(w io.Writer, report func(lost int) []byte) *Queue {
	return &Queue{w: w, report: report, failed: func(error) {}}
}

// Write adds a line, or several, or drops them. It keeps no reference to p, and always
// succeeds.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := 1
	if q.full {
		limit = 2
	}
	q.full = q.bytes+len(p) > queueBytes/limit || len(q.lines) >= queueLines/limit
	switch {
	case q.closed:
	case q.full:
		q.lost += bytes.Count(p, []byte("\n"))
	default:
		if q.lost > 0 {
			q.reportLost()
		}
		q.add(bytes.Clone(p))
	}
	return len(p), nil
}

// Keep is Write for what is never dropped. It is for few lines only: the limits do not
// hold for them.
func (q *Queue) Keep(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.add(bytes.Clone(p))
	}
	return len(p), nil
}

// add adds a line and starts the writing of it. The lock is held.
func (q *Queue) add(line []byte) {
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	if q.written == nil {
		q.written = make(chan struct{})
		go q.writeAll()
	}
}

// reportLost adds the line about dropped ones. The lock is held.
func (q *Queue) reportLost() {
	lost := q.lost
	q.lost = 0
	q.add(q.report(lost))
}

// writeAll writes until the Queue is empty.
func (q *Queue) writeAll() {
	var warned time.Time
	for line := q.next(); line != nil; line = q.next() {
		if !q.write(line, &warned) {
			q.mu.Lock()
			q.closed, q.lines, q.bytes, q.lost = true, nil, 0, 0
			q.mu.Unlock()
		}
	}
}

// next removes the first line, nil if there is none.
func (q *Queue) next() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 && q.lost > 0 {
		q.reportLost()
	}
	if len(q.lines) == 0 {
		close(q.written)
		q.lines, q.written = nil, nil
		return nil
	}
	line := q.lines[0]
	q.lines[0] = nil
	q.lines = q.lines[1:]
	q.bytes -= len(line)
	return line
}

// write writes one line, however long that takes. It reports whether the writer is
// open.
func (q *Queue) write(line []byte, warned *time.Time) bool {
	for {
		n, err := q.w.Write(line)
		line = line[n:]
		if err == nil && len(line) > 0 {
			err = io.ErrShortWrite
		}
		switch {
		case err == nil:
			q.mu.Lock()
			q.taken++
			q.mu.Unlock()
			return true
		case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EBADF), errors.Is(err, os.ErrClosed), errors.Is(err, io.ErrClosedPipe):
			return false
		case time.Since(*warned) >= failurePause:
			*warned = time.Now()
			q.failed(err)
		}
		time.Sleep(retryPause)
	}
}

// errStuck means that lines are left.
var errStuck = errors.New("the writer takes no lines")

// Flush waits until the lines that the Queue holds are written, or for one to two
// seconds while the writer takes none, and for some seconds altogether. Then there is
// an error.
func (q *Queue) Flush() error {
	written, before := q.progress()
	if written == nil {
		return nil
	}
	for end := time.Now().Add(flushLimit); ; {
		select {
		case <-written:
			return nil
		case <-time.After(flushStall):
		}
		_, taken := q.progress()
		if taken == before || !time.Now().Before(end) {
			return errStuck
		}
		before = taken
	}
}

func (q *Queue) progress() (written <-chan struct{}, taken uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.written, q.taken
}
