package tornet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// tailLines is how many of the last lines of a log an error shows.
	tailLines = 15
	// tailWidth is how much of each line it shows: tor's warnings about an
	// unusual configuration are long.
	tailWidth = 240
)

// NodeError is the failure of one tor process, with the end of its log.
type NodeError struct {
	// Node is the name of the node, for example "bridge-1".
	Node string
	// Err is what went wrong.
	Err error
	// Tail is the end of the node's log, after what the transports that it
	// launched have written to standard error.
	Tail string
}

func (e *NodeError) Error() string {
	return fmt.Sprintf("tor (%s): %v; the end of its log:\n%s", e.Node, e.Err, strings.TrimRight(e.Tail, "\n"))
}

func (e *NodeError) Unwrap() error { return e.Err }

// fail wraps err with the node's name and the end of its log.
func (n *Node) fail(err error) error {
	var known *NodeError
	if err == nil || errors.As(err, &known) {
		return err
	}
	// Before tor has opened its log, the reason why it gives up is only on
	// its console.
	lines := slices.Concat(n.linesSoFar(consoleFile), n.linesSoFar(noticeLog))
	if slices.ContainsFunc(lines, saysPortTaken) {
		err = fmt.Errorf("%w: %w", ErrPortTaken, err)
	}
	complaints := slices.DeleteFunc(n.linesSoFar(transportLog), func(line string) bool {
		return !strings.Contains(line, "reported via standard error")
	})
	return &NodeError{Node: n.name, Err: err, Tail: tail(complaints) + tail(lines)}
}

// tail returns the last of the lines, indented.
func tail(lines []string) string {
	var text strings.Builder
	for _, line := range lines[max(0, len(lines)-tailLines):] {
		if len(line) > tailWidth {
			line = line[:tailWidth] + "..."
		}
		text.WriteString("\t" + line + "\n")
	}
	return text.String()
}

// linesSoFar returns what is in a log since the node's last start.
func (n *Node) linesSoFar(file string) []string {
	text, err := n.readFrom(file, n.logStart(file))
	if err != nil {
		return []string{fmt.Sprintf("(cannot read %s: %v)", file, err)}
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.TrimRight(line, "\r\n"))
	}
	return lines
}

// readFrom reads a file of the node from an offset; one that does not exist yet
// is empty.
func (n *Node) readFrom(file string, offset int64) ([]byte, error) {
	f, err := os.Open(n.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// Log returns the text of one of the node's logs, all runs of the node
// included: "notice.log", "pt.log" (what tor logs of its transports, at level
// info) or a name in the Logs of its options.
func (n *Node) Log(file string) (string, error) {
	text, err := n.readFrom(file, 0)
	return string(text), err
}

// LogPath returns where a log of the node is.
func (n *Node) LogPath(file string) string { return n.path(file) }

// WaitLog waits until a line that matches appears in one of the node's logs
// after the node's last start, and returns that line's submatches. It fails
// when tor ends.
func (n *Node) WaitLog(ctx context.Context, file string, pattern *regexp.Regexp) ([]string, error) {
	var match []string
	err := n.follow(ctx, file, func(line string) (bool, error) {
		match = pattern.FindStringSubmatch(line)
		return match != nil, nil
	})
	if err != nil {
		return nil, n.fail(fmt.Errorf("waiting for %q in %s: %w", pattern, file, err))
	}
	return match, nil
}

// errExited means that tor ended while something was expected of it.
var errExited = errors.New("tor ended")

// follow passes each line that was logged since the node's last start, and each
// that is logged from now on, to see, until that is done or fails, tor ends or
// ctx does.
func (n *Node) follow(ctx context.Context, file string, see func(line string) (done bool, err error)) error {
	current := n.current()
	if current == nil {
		return errExited
	}
	offset := current.logStart[file]
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ended := current.ended() // looked at first: what tor said last counts
		text, err := n.readFrom(file, offset)
		if err != nil {
			return err
		}
		whole := text[:bytes.LastIndexByte(text, '\n')+1]
		offset += int64(len(whole))
		for line := range bytes.Lines(whole) {
			if done, err := see(strings.TrimRight(string(line), "\r\n")); done || err != nil {
				return err
			}
		}
		if ended {
			return fmt.Errorf("%w: %w", errExited, current.result)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-current.exited:
		case <-tick.C:
		}
	}
}

// bootstrapped matches tor's progress, for example
// "Bootstrapped 75% (enough_dirinfo): Loaded enough directory info".
var bootstrapped = regexp.MustCompile(`Bootstrapped (\d+)%`)

// hopeless matches what tor logs of a transport that will never work. Without
// it a transport that fails would be waited for until the time is up.
var hopeless = regexp.MustCompile(`failed the configuration protocol|` +
	`didn't launch any pluggable transport|` +
	`encountered a method error|` +
	`[Mm]anaged proxy .*(terminated with status|died in state)|` +
	`Could not launch managed proxy|` +
	`The pluggable transport process .*(died|failed)`)

// waitBootstrapped waits until tor has bootstrapped to at least the given
// percentage and reports how far it is.
func (n *Node) waitBootstrapped(ctx context.Context, percent int, report func(percent int)) error {
	err := n.follow(ctx, noticeLog, func(line string) (bool, error) {
		if hopeless.MatchString(line) {
			return false, fmt.Errorf("the transport failed: %s", line)
		}
		match := bootstrapped.FindStringSubmatch(line)
		if match == nil {
			return false, nil
		}
		now, err := strconv.Atoi(match[1])
		if err != nil {
			return false, err
		}
		report(min(100, now*100/percent))
		return now >= percent, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for it to bootstrap to %d%%: %w", percent, err)
	}
	return nil
}
