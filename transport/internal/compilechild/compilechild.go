// Package compilechild compiles modules in a process of their own, so that a module which
// makes the compiler take all memory, or time without end, costs that process and no
// other. The child leaves its result in the cache.
package compilechild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"waterproxy/internal/program"
	"waterproxy/internal/rlimit"
)

// Limits of a child. A large module takes a second of processor time and 200 MiB.
const (
	// Seconds bounds its processor time.
	Seconds = 60
	// memoryBase and memoryFactor bound the memory that it may write to, in bytes: so
	// much, and so many times the size of the module.
	memoryBase   = 1 << 30
	memoryFactor = 32
	// deadline is for what takes no processor time.
	deadline = 10 * time.Minute
)

// Exit statuses of a child.
const (
	exitRefused = 1  // the module is at fault; the reason is on standard error
	exitUsage   = 64 // this package is at fault
)

// Command is what starts a child: a program, which calls [Main] with the arguments that
// follow Command's own.
type Command []string

// Compile has a child compile a module, whose result is in cacheDir afterwards, unless
// nothing can be kept there. The error says why the module is refused.
func (c Command) Compile(ctx context.Context, wasm []byte, cacheDir string, scale int) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	args := append(append([]string(nil), c[1:]...), cacheDir, strconv.Itoa(scale), strconv.Itoa(len(wasm)))
	child := exec.CommandContext(ctx, c[0], args...)
	child.Env = program.PartEnvironment()
	var said tail
	child.Stdout, child.Stderr = &said, &said
	stdin, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return &StartError{err}
	}
	// The child ends if this pipe does, as it would with this process.
	_, werr := stdin.Write(wasm)
	err = child.Wait()
	if err == nil {
		return nil
	}
	return explain(ctx, err, werr, &said, len(wasm))
}

// StartError is that there is no child.
type StartError struct{ err error }

func (e *StartError) Error() string { return "start a process that compiles: " + e.err.Error() }
func (e *StartError) Unwrap() error { return e.err }

func explain(ctx context.Context, err, werr error, said *tail, size int) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	text := said.String()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("compiling it took more than %v", deadline)
	case !ok:
		return errors.Join(err, werr)
	case exit.ExitCode() == exitRefused && text != "":
		return errors.New(text)
	case killed(exit):
		return fmt.Errorf("compiling it took more than %d seconds of processor time, or was ended from outside", Seconds)
	case strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory"):
		return fmt.Errorf("compiling it took more than %d MiB of memory", memory(size)>>20)
	}
	first, _, _ := strings.Cut(text, "\n")
	return fmt.Errorf("the compiler failed: %v: %s", err, first)
}

func memory(size int) uint64 { return memoryBase + memoryFactor*uint64(size) }

// tail keeps the beginning of what a child says; the rest is of no use.
type tail struct{ b bytes.Buffer }

const mostSaid = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p[:min(len(p), mostSaid-t.b.Len())])
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(t.b.String()) }

// Main is a child: it reads a module from standard input, and compiles it by compile,
// with limits. It returns the exit status.
func Main(args []string, stdin io.Reader, stderr io.Writer, compile func(wasm []byte, cacheDir string, scale int) error) int {
	if len(args) != 3 {
		fmt.Fprintln(stderr, "the process that compiles takes a directory, a scale and a size")
		return exitUsage
	}
	scale, err1 := strconv.Atoi(args[1])
	size, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil || size < 0 {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if err := rlimit.Set(Seconds, memory(size)); err != nil {
		fmt.Fprintln(stderr, "limit the process that compiles:", err)
		return exitUsage
	}
	wasm := make([]byte, size)
	if _, err := io.ReadFull(stdin, wasm); err != nil {
		fmt.Fprintln(stderr, "read the module:", err)
		return exitUsage
	}
	go func() { // nobody waits any more when this ends
		_, _ = io.Copy(io.Discard, stdin)
		os.Exit(exitUsage)
	}()
	if err := compile(wasm, args[0], scale); err != nil {
		fmt.Fprintln(stderr, err)
		return exitRefused
	}
	return 0
}
