package guest

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	maxLine     = 1 << 10 // bytes; longer lines are cut
	linesAtOnce = 50      // lines an instance may log in a burst
	linesPerSec = 10      // lines a second after that
	outputLevel = slog.LevelDebug
)

// lineLogger turns what a module prints into log lines, at a bounded rate.
type lineLogger struct {
	log  *slog.Logger
	name string
	// died gets the line in which a runtime gives the reason of its end.
	died func(line string)

	mu      sync.Mutex
	line    []byte
	cut     bool // the line is too long; the rest of it is dropped
	tokens  float64
	last    time.Time
	dropped int
}

func newLineLogger(log *slog.Logger, name string, died func(line string)) *lineLogger {
	return &lineLogger{log: log, name: name, died: died, tokens: linesAtOnce, last: time.Now()}
}

// write takes everything.
func (l *lineLogger) write(bufs [][]byte) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range bufs {
		n += len(b)
		for len(b) > 0 {
			head, rest, ended := bytes.Cut(b, []byte("\n"))
			if room := maxLine - len(l.line); len(head) > room {
				head, l.cut = head[:room], true
			}
			l.line = append(l.line, head...)
			if ended {
				l.emit()
			}
			b = rest
		}
	}
	return n
}

// flush logs a last line that was not ended.
func (l *lineLogger) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.emit()
	}
	if l.dropped > 0 {
		l.log.Log(context.Background(), outputLevel, "module printed more than is logged", "lines_dropped", l.dropped)
		l.dropped = 0
	}
}

// lastWords are how the lines begin in which runtimes say why they give up (Go, Rust).
var lastWords = []string{"panic: ", "fatal error: ", "thread '"}

// emit logs the line, if the level and the rate allow it. The lock is held.
func (l *lineLogger) emit() {
	for _, words := range lastWords {
		if bytes.HasPrefix(l.line, []byte(words)) {
			l.died(string(l.line))
		}
	}
	if !l.log.Enabled(context.Background(), outputLevel) {
		l.line, l.cut = l.line[:0], false
		return
	}
	now := time.Now()
	l.tokens = min(linesAtOnce, l.tokens+now.Sub(l.last).Seconds()*linesPerSec)
	l.last = now
	line, cut := strings.ToValidUTF8(string(l.line), "\uFFFD"), l.cut
	l.line, l.cut = nil, false
	if l.tokens < 1 {
		l.dropped++
		return
	}
	l.tokens--
	args := []any{"stream", l.name, "line", line}
	if cut {
		args = append(args, "cut", true)
	}
	if l.dropped > 0 {
		args = append(args, "lines_dropped", l.dropped)
		l.dropped = 0
	}
	l.log.Log(context.Background(), outputLevel, "module printed", args...)
}
