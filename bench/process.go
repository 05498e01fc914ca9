package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/measure"
)

const (
	// exitLimit is how long a process may take to end when it is asked to.
	exitLimit = 5 * time.Second
	// excerptKept is how much of what a process writes to standard error is kept,
	// and excerptQuoted how much of that a report quotes.
	excerptKept   = 1 << 20
	excerptQuoted = 400
)

// process is a child whose standard input is held open for as long as it is to
// run: closing it is how tor tells a pluggable transport to exit.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr *excerpt
	began  time.Time
	// exitsOnStdin is false for programs that only SIGTERM ends.
	exitsOnStdin bool

	exited  chan struct{} // closed after Wait; waitErr is set then
	waitErr error
}

// spawn starts a command with its standard output piped. The caller must read
// that to its end (see drained) before the process can be waited for.
func spawn(args, env []string, exitsOnStdin bool, echo io.Writer) (*process, error) {
	if len(args) == 0 {
		return nil, errors.New("empty command line")
	}
	p := &process{
		name:         args[0],
		cmd:          exec.Command(args[0], args[1:]...),
		stderr:       &excerpt{echo: echo},
		exitsOnStdin: exitsOnStdin,
		exited:       make(chan struct{}),
	}
	p.cmd.Env = env
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = childAttributes()
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := raiseFileLimit(p.cmd.Process.Pid); err != nil {
		p.drained()
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}

// drained must be called once, when standard output is at its end or is of no
// more interest: it reads the rest in the background and waits for the process.
func (p *process) drained() {
	go func() {
		// A read error means that the pipe is gone, which is the end as well.
		_, _ = io.Copy(io.Discard, p.stdout)
		p.waitErr = p.cmd.Wait()
		close(p.exited)
	}()
}

// account returns what the measurements need to know of the process.
func (p *process) account() *measure.Process {
	return &measure.Process{PID: p.cmd.Process.Pid}
}

// running reports an error if the process has ended by itself.
func (p *process) running() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended by itself (%v, %v)%s", p.name, p.cmd.ProcessState, p.waitErr, p.stderr.quoted())
	default:
		return nil
	}
}

// stop tells the process to end and returns how long that took, from the order
// to the moment it was reaped. It is an error if it had to be killed.
func (p *process) stop() (time.Duration, error) {
	if err := p.running(); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := p.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return 0, errors.Join(fmt.Errorf("%s: close standard input: %w", p.name, err), p.kill())
	}
	if !p.exitsOnStdin {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return 0, errors.Join(fmt.Errorf("%s: %w", p.name, err), p.kill())
		}
	}
	select {
	case <-p.exited:
		return time.Since(begin), nil
	case <-time.After(exitLimit):
		err := fmt.Errorf("%s did not exit within %v of being asked to and was killed%s", p.name, exitLimit, p.stderr.quoted())
		return time.Since(begin), errors.Join(err, p.kill())
	}
}

// kill ends the process by force and waits for it.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(exitLimit):
		return fmt.Errorf("%s (process %d) outlived SIGKILL by %v", p.name, p.cmd.Process.Pid, exitLimit)
	}
}

// excerpt keeps what a process wrote, to quote from it when something goes wrong.
type excerpt struct {
	echo io.Writer // gets everything too, if not nil

	mu   sync.Mutex
	kept []byte
}

func (e *excerpt) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = append(e.kept, b...)
	if cut := len(e.kept) - excerptKept; cut > 0 {
		e.kept = append(e.kept[:0], e.kept[cut:]...)
	}
	if e.echo != nil {
		return e.echo.Write(b)
	}
	return len(b), nil
}

// quoted is the beginning of a crash report or else the last that was written,
// ready to be added to an error's text.
func (e *excerpt) quoted() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(e.kept), "?"))
	crash := strings.Index(text, "\npanic: ")
	if crash < 0 {
		crash = strings.Index(text, "\nfatal error: ")
	}
	switch {
	case crash >= 0:
		text = text[crash+1:]
		text = text[:min(len(text), excerptQuoted)]
	case text == "":
		return ""
	default:
		text = text[max(0, len(text)-excerptQuoted):]
	}
	return fmt.Sprintf("; it wrote %q", strings.ToValidUTF8(text, "?"))
}

// readyOrExit waits for what a reader of the process's output reports.
func (p *process) readyOrExit(ctx context.Context, ready <-chan error, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ready:
		return err
	case <-timer.C:
		return fmt.Errorf("not ready within %v", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}
