package ptproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// DefaultStopLimit is how long a process may take to end when it is asked to.
const DefaultStopLimit = 20 * time.Second

// Process is a pluggable transport's process. Its fields may be changed until Start.
type Process struct {
	// Cmd is the command. Its standard streams are set by Start, unless they are set
	// already; without a Cmd.Stdout of ours there is no negotiation to wait for.
	Cmd *exec.Cmd
	// Name is how errors call it.
	Name string
	// Stdout and Stderr keep what it writes. They may be the same.
	Stdout, Stderr *Lines
	// StopLimit bounds Stop.
	StopLimit time.Duration

	hello  *Negotiation
	stdin  io.Closer
	exited chan struct{}
}

// New returns a process that has not begun. args are the program and its arguments.
func New(environment []string, args ...string) *Process {
	p := &Process{
		Cmd:       exec.Command(args[0], args[1:]...),
		Name:      filepath.Base(args[0]),
		Stdout:    &Lines{},
		Stderr:    &Lines{},
		StopLimit: DefaultStopLimit,
		hello:     NewNegotiation(),
		exited:    make(chan struct{}),
	}
	p.Cmd.Env = environment
	return p
}

// Start begins the process. The caller calls Stop or Kill, or waits for Exited. On Linux
// it is killed when the calling process dies.
func (p *Process) Start() (err error) {
	if p.Cmd.Stdout == nil {
		p.Cmd.Stdout = io.MultiWriter(p.Stdout, p.hello)
	}
	if p.Cmd.Stderr == nil {
		p.Cmd.Stderr = p.Stderr
	}
	// A process that it has started and left may hold its output open.
	p.Cmd.WaitDelay = p.StopLimit
	if p.stdin, err = p.Cmd.StdinPipe(); err != nil {
		return err
	}
	if err := StartTied(p.Cmd); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.Name, err)
	}
	go func() {
		_ = p.Cmd.Wait() // its error is in the state
		close(p.exited)
	}()
	return nil
}

// Ready waits for the end of the negotiation and returns what the proxy has announced.
// The error has the last lines that the process wrote.
func (p *Process) Ready(ctx context.Context) ([]Method, error) {
	select {
	case <-p.hello.Done():
	case <-p.exited:
		select {
		case <-p.hello.Done(): // its last words are the reason
		default:
			return nil, p.Explain(fmt.Errorf("it ended (%s) before it said where it listens", p.Cmd.ProcessState))
		}
	case <-ctx.Done():
		return nil, p.Explain(fmt.Errorf("it did not say where it listens: %w", context.Cause(ctx)))
	}
	methods, _, err := p.hello.Methods()
	return methods, p.Explain(err)
}

// Method is Ready for one transport that has to be among those announced.
func (p *Process) Method(ctx context.Context, transport string) (Method, error) {
	methods, err := p.Ready(ctx)
	if err != nil {
		return Method{}, err
	}
	m, err := Find(methods, transport)
	return m, p.Explain(err)
}

// Exited is closed when the process is gone and all that it wrote has been read.
// Cmd.ProcessState is valid then.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// CloseStdin asks the process to end, if TOR_PT_EXIT_ON_STDIN_CLOSE is set (pt-spec 3.2.1).
func (p *Process) CloseStdin() error {
	if err := p.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Signal sends a signal, unless the process has ended.
func (p *Process) Signal(s os.Signal) error {
	if err := p.Cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop ends the process as tor does and waits until it is gone. It is an error if it had
// to be killed.
func (p *Process) Stop() error {
	err := errors.Join(p.CloseStdin(), p.Signal(syscall.SIGTERM))
	limit := time.NewTimer(p.StopLimit)
	defer limit.Stop()
	select {
	case <-p.exited:
		return err
	case <-limit.C:
	}
	err = errors.Join(err, p.Explain(fmt.Errorf("it did not end within %v of SIGTERM and had to be killed", p.StopLimit)))
	return errors.Join(err, p.Kill())
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(os.Kill); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// Tail returns the last lines that the process wrote, indented.
func (p *Process) Tail() string {
	lines := p.Stdout.All()
	if p.Stderr != p.Stdout {
		lines = append(lines, p.Stderr.All()...)
	}
	return "\t" + strings.Join(lines[max(0, len(lines)-tailLines):], "\n\t")
}

// tailLines is how many lines an error shows at most.
const tailLines = 20

// Explain adds the name of the process, and its last lines, to an error that is not nil.
func (p *Process) Explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w; it wrote last:\n%s", p.Name, err, p.Tail())
}
