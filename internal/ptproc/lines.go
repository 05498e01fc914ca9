package ptproc

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// maxLine is how many bytes a line has at most, which is more than tor reads. What is
// longer counts as several lines.
const maxLine = 64 << 10

// Lines is an io.Writer that keeps what is written to it, line by line. It is safe for
// concurrent use; Keep is set before.
type Lines struct {
	// Keep is how many lines are kept, the last ones. 0: all.
	Keep int

	each func(line string) // called with each line, if not nil

	mu      sync.Mutex
	kept    []string
	partial []byte
	more    chan struct{} // closed when there is a line more; nil if no one waits
}

// Write takes a piece of text. It returns no error.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ended := bytes.Cut(l.partial, []byte("\n"))
		if !ended && len(l.partial) > maxLine {
			line, rest, ended = l.partial, nil, true
		}
		if !ended {
			return len(p), nil
		}
		l.add(strings.TrimSuffix(string(line), "\r"))
		l.partial = rest
	}
}

func (l *Lines) add(line string) {
	if l.each != nil {
		l.each(line)
	}
	l.kept = append(l.kept, line)
	if l.Keep > 0 && len(l.kept) > l.Keep {
		l.kept = slices.Delete(l.kept, 0, len(l.kept)-l.Keep)
	}
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// All returns the lines that are kept, and the unfinished one.
func (l *Lines) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.kept)
	if len(l.partial) > 0 {
		all = append(all, string(l.partial))
	}
	return all
}

// next returns the lines so far and a channel that is closed when there are more.
func (l *Lines) next() ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return slices.Clone(l.kept), l.more
}

// Await waits for a line that matches, among those that are kept and those to come, and
// returns it and what the groups of the pattern match. It fails when ctx ends, or when
// end is closed and nothing has matched.
func (l *Lines) Await(ctx context.Context, pattern *regexp.Regexp, end <-chan struct{}) ([]string, error) {
	for ended := false; ; {
		lines, more := l.next()
		for _, line := range lines {
			if match := pattern.FindStringSubmatch(line); match != nil {
				return match, nil
			}
		}
		if ended {
			return nil, fmt.Errorf("it ended without a line that matches %s", pattern)
		}
		select {
		case <-more:
		case <-end:
			ended = true
		case <-ctx.Done():
			return nil, fmt.Errorf("no line matches %s: %w", pattern, context.Cause(ctx))
		}
	}
}
