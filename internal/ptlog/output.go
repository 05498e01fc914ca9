package ptlog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
)

// outputs are the Queues that Flush waits for.
var outputs struct {
	mu  sync.Mutex
	all []*Queue
}

// output returns a Queue for w that Flush waits for.
func output(w io.Writer, report func(lost int) []byte) *Queue {
	q := NewQueue(w, report)
	outputs.mu.Lock()
	defer outputs.mu.Unlock()
	outputs.all = append(outputs.all, q)
	return q
}

// Flush waits for the lines that are on their way to standard output, standard error
// and the log file, as Queue.Flush does. It belongs directly before the end of the
// process.
func Flush() {
	outputs.mu.Lock()
	all := outputs.all
	outputs.mu.Unlock()
	var flushed sync.WaitGroup
	for _, q := range all {
		flushed.Go(func() { _ = q.Flush() }) // what is stuck is lost with the process
	}
	flushed.Wait()
}

// stdout and stderr are the Queues of the process.
var (
	stdout = sync.OnceValue(func() *Queue {
		return output(os.Stdout, func(lost int) []byte {
			return fmt.Appendf(nil, "LOG SEVERITY=warning MESSAGE=\"%d lines were dropped because standard output was not read\"\n", lost)
		})
	})
	stderr = sync.OnceValue(func() *Queue {
		return output(os.Stderr, func(lost int) []byte {
			return fmt.Appendf(nil, "waterproxy: %d lines were dropped because standard error was not read\n", lost)
		})
	})
)

// kept is a Queue that drops nothing.
type kept struct{ *Queue }

func (k kept) Write(p []byte) (int, error) { return k.Keep(p) }

// Stdout and Stderr return writers for the few lines of a command that must not be
// dropped, each in one write, behind the lines of the log. Neither blocks; see Flush.
func Stdout() io.Writer { return kept{stdout()} }

// Stderr is described at Stdout.
func Stderr() io.Writer { return kept{stderr()} }

// QueueOutput puts a Queue before everything that a service reports: before goptlib's
// pt.Stdout and the output of package log, to which libraries write. It also ignores
// SIGPIPE, by which a closed output would end the process.
func QueueOutput() {
	signal.Ignore(syscall.SIGPIPE)
	pt.Stdout = torLines{stdout()}
	log.SetOutput(stderr())
}

// torLines writes lines to tor. Those of the negotiation are never dropped.
type torLines struct{ queue *Queue }

func (t torLines) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("LOG ")) || bytes.HasPrefix(p, []byte("STATUS TRANSPORT=")) {
		return t.queue.Write(p)
	}
	return t.queue.Keep(p)
}

// toStderr returns a handler for standard error, in the format of the flags.
func (f *Flags) toStderr() slog.Handler {
	q, reports := stderr(), f.reports("standard error was not read")
	q.mu.Lock()
	defer q.mu.Unlock()
	q.report = reports
	return f.formatted(q)
}

// toFile returns a handler for the log file, which stays open until the process ends.
// warn gets a record when the file cannot be written, and when lines were dropped.
func (f *Flags) toFile(name string, warn *slog.Logger) (slog.Handler, error) {
	file, err := openLog(name)
	if err != nil {
		return nil, err
	}
	const why = "the log file could not be written"
	reports := f.reports(why)
	q := output(file, func(lost int) []byte {
		warn.Warn("lines of the log were dropped because "+why, "file", name, "lines", lost)
		return reports(lost)
	})
	q.failed = func(err error) {
		warn.Warn("cannot write the log file; its next lines are kept up to a limit, then dropped", "file", name, "error", err)
	}
	return f.formatted(q), nil
}

// reports returns a function that writes the record about dropped lines, at any level
// of the log.
func (f *Flags) reports(why string) func(lost int) []byte {
	return func(lost int) []byte {
		var line bytes.Buffer
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log were dropped because "+why, 0)
		r.Add("lines", lost)
		_ = f.formatted(&line).Handle(context.Background(), r) // into memory
		return line.Bytes()
	}
}

// openLog opens a log file to append to it. It does not wait for the reader of a named
// pipe: only a regular file is one that takes lines at any time.
func openLog(name string) (*os.File, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return file, nil
}
