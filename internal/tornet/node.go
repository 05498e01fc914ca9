package tornet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/ptproc"
)

const (
	// readyTimeout is how long one tor may take to become ready, over and
	// above what ctx allows: ten times what the slowest takes.
	readyTimeout = 2 * time.Minute
	// stopTimeout is how long tor may take to end after SIGTERM. With
	// ShutdownWaitLength 0 it takes some 10 ms, but one that has just got a
	// new consensus sometimes hangs after "exiting cleanly".
	stopTimeout = 2 * time.Second
)

// consoleFile holds what tor writes before its log is open.
const consoleFile = "console.log"

// ErrClosed is returned for what is asked of a node or a core after its Close.
var ErrClosed = errors.New("closed")

// Node is one tor with its files: part of a [Bridge] and of a [Client].
type Node struct {
	name string
	dir  string
	tor  string
	logs map[string]string // severity or domains by file name
	// ready waits until the node is usable after a start.
	ready func(ctx context.Context) error

	mu     sync.Mutex
	run    *run // the latest, nil before the first
	closed bool
}

// run is one life of a node's tor.
type run struct {
	process  *os.Process
	exited   chan struct{}
	result   error            // how it ended; valid once exited is closed
	logStart map[string]int64 // the size of each log when it started
}

func (r *run) ended() bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}

// newNode makes a node's folder.
func (c *Core) newNode(name string, logs map[string]string) (*Node, error) {
	n := &Node{
		name: name,
		dir:  filepath.Join(c.dir, name),
		tor:  c.programs.Tor,
		logs: logs,
	}
	for file := range logs {
		if file == noticeLog || file == transportLog || file == consoleFile || file != filepath.Base(file) {
			return nil, fmt.Errorf("%q cannot be the name of a further log", file)
		}
	}
	// tor insists on a folder that no other user can enter.
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return nil, err
	}
	return n, nil
}

// Name returns the node's name, which is also that of its folder.
func (n *Node) Name() string { return n.name }

// Dir returns the node's folder, which is also tor's DataDirectory.
func (n *Node) Dir() string { return n.dir }

func (n *Node) path(file string) string { return filepath.Join(n.dir, file) }

// current returns the latest run, nil before the first.
func (n *Node) current() *run {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run
}

// logStart returns where in a log the latest run begins.
func (n *Node) logStart(file string) int64 {
	if r := n.current(); r != nil {
		return r.logStart[file]
	}
	return 0
}

// launch starts tor, without waiting until it is usable.
func (n *Node) launch() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("%s: %w", n.name, ErrClosed)
	}
	if n.run != nil && !n.run.ended() {
		return fmt.Errorf("%s runs already", n.name)
	}
	starts, err := n.logSizes()
	if err != nil {
		return err
	}
	console, err := os.OpenFile(n.path(consoleFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close() // tor has its own copy
	// --hush leaves warnings on the console, the only place for those that
	// come before the log is open.
	cmd := exec.Command(n.tor, "-f", n.path("torrc"), "--defaults-torrc", os.DevNull)
	cmd.Dir = n.dir
	cmd.Env = append(ptproc.CleanEnvironment(), nodeVariable+"="+n.dir)
	cmd.Stdout, cmd.Stderr = console, console
	if err := ptproc.StartTied(cmd); err != nil {
		return fmt.Errorf("cannot start tor (%s): %w", n.name, err)
	}
	r := &run{process: cmd.Process, exited: make(chan struct{}), logStart: starts}
	go func() {
		r.result = cmd.Wait()
		if r.result == nil {
			r.result = errors.New("exit status 0")
		}
		close(r.exited)
	}()
	n.run = r
	return nil
}

// logSizes returns how long each log is now.
func (n *Node) logSizes() (map[string]int64, error) {
	sizes := make(map[string]int64)
	files := []string{consoleFile, noticeLog, transportLog}
	for file := range n.logs {
		files = append(files, file)
	}
	for _, file := range files {
		info, err := os.Stat(n.path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes[file] = info.Size()
	}
	return sizes, nil
}

// start starts tor and waits until it is usable; when it does not become so it
// is stopped.
func (n *Node) start(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := n.launch(); err != nil {
		return err
	}
	if err := n.waitReady(ctx); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			// Whoever gave it up does not ask why it was not ready.
			err = fmt.Errorf("%s: %w", n.name, context.Cause(ctx))
		} else {
			// The log is read before anything is stopped, for a tail
			// that ends with the cause.
			err = n.fail(err)
		}
		return errors.Join(err, n.stop(syscall.SIGKILL))
	}
	return nil
}

func (n *Node) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout,
		fmt.Errorf("not ready after %v", readyTimeout))
	defer cancel()
	return n.ready(ctx)
}

// PID returns tor's process number, 0 if tor is not running.
func (n *Node) PID() int {
	r := n.current()
	if r == nil || r.ended() {
		return 0
	}
	return r.process.Pid
}

// Done returns a channel that is closed when the tor that runs now ends.
func (n *Node) Done() <-chan struct{} {
	if r := n.current(); r != nil {
		return r.exited
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}

// TransportProcesses returns the processes that tor has launched and that are
// alive: its pluggable transports.
func (n *Node) TransportProcesses() ([]Process, error) {
	pid := n.PID()
	if pid == 0 {
		return nil, n.fail(errExited)
	}
	return childProcesses(pid)
}

// Signal sends a signal to tor.
func (n *Node) Signal(sig os.Signal) error {
	r := n.current()
	if r == nil {
		return fmt.Errorf("%s: %w", n.name, os.ErrProcessDone)
	}
	return r.process.Signal(sig)
}

// Kill sends a signal that ends tor, for example SIGKILL, and waits until tor
// is gone. The processes that tor launched are left to themselves.
func (n *Node) Kill(ctx context.Context, sig os.Signal) error {
	if err := n.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	select {
	case <-ctx.Done():
		return n.fail(fmt.Errorf("waiting for it to end after the signal %q: %w", sig, context.Cause(ctx)))
	case <-n.Done():
		return nil
	}
}

// Restart starts tor again after a Kill, or stops it first if it runs, and
// waits until it is usable. Its ports and keys stay the same.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.stop(syscall.SIGTERM); err != nil {
		return err
	}
	return n.start(ctx)
}

// forgetConsensus starts tor again without the consensus that it has.
func (n *Node) forgetConsensus() error {
	if err := n.stop(syscall.SIGTERM); err != nil {
		return err
	}
	for _, file := range []string{"cached-microdesc-consensus", "unverified-microdesc-consensus"} {
		if err := os.Remove(n.path(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return n.launch()
}

// stop ends tor, with SIGKILL if sig does not, and what it launched, and waits
// until all are gone. An error tells of what tor launched, not of tor.
func (n *Node) stop(sig os.Signal) error {
	r := n.current()
	if r == nil {
		return nil
	}
	var errs []error
	if err := r.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	select {
	case <-r.exited:
	case <-time.After(stopTimeout):
		// That is tor's own affair. What matters here, that its transports
		// end, is seen to below.
		if err := r.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return errors.Join(append(errs, err)...)
		}
		<-r.exited
	}
	return errors.Join(append(errs, endProcesses(n.dir, survivalTime))...)
}

// Close stops tor and waits until it and all it launched are gone. It returns a
// [*SurvivorsError] if a transport did not end. The files stay.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	if err := n.stop(syscall.SIGTERM); err != nil {
		return fmt.Errorf("closing %s: %w", n.name, err)
	}
	return nil
}
