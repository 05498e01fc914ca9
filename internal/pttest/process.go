package pttest

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
)

// EndLimit bounds the end of a proxy. It is less than the time that waterproxy waits for
// connections by default, so that one that waits without need shows.
const EndLimit = 20 * time.Second

// Process is a process of a test, which ends with it. Its methods fail the test.
type Process struct {
	*ptproc.Process
	T testing.TB
}

// New returns a process that has not begun, in a folder of its own, with nothing of the
// test's environment but PATH.
func New(t testing.TB, variables ptproc.Variables, args ...string) *Process {
	t.Helper()
	p := &Process{ptproc.New(variables.AddTo([]string{"PATH=" + os.Getenv("PATH")}), args...), t}
	p.Cmd.Dir = t.TempDir()
	p.StopLimit = EndLimit
	return p
}

// NewSelf returns a process that has not begun, of the test binary as the program (see
// BeProgram).
func NewSelf(t testing.TB, variables ptproc.Variables, args ...string) *Process {
	t.Helper()
	p := New(t, variables, append([]string{os.Args[0]}, args...)...)
	p.Cmd.Env = append(p.Cmd.Env,
		ProgramVariable+"=1",
		"GODEBUG=netdns=go",
		"GORACE=atexit_sleep_ms=0", // by default a process lives on for a second
	)
	return p
}

// Begin starts the process. The test's end kills it, and shows what it wrote if the test
// has failed.
func (p *Process) Begin() {
	p.T.Helper()
	if err := p.Start(); err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() {
		p.T.Helper()
		p.End()
		if p.T.Failed() {
			p.T.Logf("%q wrote to standard output:\n\t%s\nand to standard error:\n\t%s", p.Cmd.Args[1:],
				strings.Join(p.Stdout.All(), "\n\t"), strings.Join(p.Stderr.All(), "\n\t"))
		}
	})
}

// End kills the process and returns when all that it wrote has been read.
func (p *Process) End() {
	p.T.Helper()
	if err := p.Kill(); err != nil {
		p.T.Error(err)
	}
}

// Wait waits for the process to end, and reports whether it did in the time.
func (p *Process) Wait(limit time.Duration) bool {
	p.T.Helper()
	select {
	case <-p.Exited():
		return true
	case <-time.After(limit):
		p.T.Errorf("the process did not end within %v", limit)
		p.End()
		return false
	}
}

// Send sends a signal.
func (p *Process) Send(s os.Signal) {
	p.T.Helper()
	if err := p.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// Status returns the exit status of a process that has ended.
func (p *Process) Status() int { return p.Cmd.ProcessState.ExitCode() }

// CheckStatus checks the exit status of a process that has ended.
func (p *Process) CheckStatus(want int) {
	p.T.Helper()
	if got := p.Status(); got != want {
		p.T.Errorf("exit status %d (%v), want %d", got, p.Cmd.ProcessState, want)
	}
}

// Line waits for a line on standard output and returns what the pattern's groups match,
// after what the whole of it does.
func (p *Process) Line(pattern string) []string {
	p.T.Helper()
	return p.Await(p.Stdout, pattern)
}

// ErrorLine is Line for standard error.
func (p *Process) ErrorLine(pattern string) []string {
	p.T.Helper()
	return p.Await(p.Stderr, pattern)
}

// Await is Line for what lines keep.
func (p *Process) Await(lines *ptproc.Lines, pattern string) []string {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	match, err := lines.Await(ctx, regexp.MustCompile(pattern), p.Exited())
	if err != nil {
		p.T.Fatal(err)
	}
	return match
}

// Address waits for the end of the negotiation and returns where a transport listens.
func (p *Process) Address(transport string) string {
	p.T.Helper()
	p.Line(`^[CS]METHODS DONE$`)
	return p.Line(`^(?:CMETHOD ` + transport + ` socks5|SMETHOD ` + transport + `) (\S+)( ARGS:\S+)?$`)[1]
}
