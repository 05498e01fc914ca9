package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"waterproxy/integration/tornet"
)

// handshakeTimeout is how long a transport may take to say where it listens; most of
// it is for compiling the module, which takes under a second on a machine that has
// nothing else to do.
const handshakeTimeout = time.Minute

// stopTimeout is how long a transport may live on when it is asked to end. Tests change it.
var stopTimeout = 20 * time.Second

// tailLines is how many of a transport's last lines an error shows.
const tailLines = 20

// The keywords of the lines in which a transport says where it listens.
const (
	clientMethod = "CMETHOD"
	serverMethod = "SMETHOD"
)

// managedProxy is a transport process, launched as tor launches it.
type managedProxy struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	shaken chan handshake // gets one value
	exited chan struct{}  // closed when the process is gone and all it said is read
	result error          // how it ended; valid once exited is closed

	mu   sync.Mutex
	tail []string
}

// listener is where a transport listens.
type listener struct {
	address string
	args    arguments // what a client has to know besides
}

// handshake is the outcome of the lines with which a transport begins.
type handshake struct {
	listener listener
	err      error
}

// launch starts a transport process for one transport; keyword is clientMethod
// or serverMethod. dir, which is made, holds its state.
func launch(command, variables []string, dir, keyword, transport string) (*managedProxy, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	p := &managedProxy{
		name:   filepath.Base(dir),
		cmd:    exec.Command(command[0], command[1:]...),
		shaken: make(chan handshake, 1),
		exited: make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.Env = append(commonVariables(filepath.Join(dir, "pt_state")+string(filepath.Separator)), variables...)
	p.cmd.WaitDelay = stopTimeout
	parser := &greeting{keyword: keyword, transport: transport, done: func(h handshake) { p.shaken <- h }}
	p.cmd.Stdout = &lineWriter{line: func(line string) {
		p.remember(line)
		parser.line(line)
	}}
	p.cmd.Stderr = &lineWriter{line: p.remember}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := tornet.StartTied(p.cmd); err != nil {
		return nil, fmt.Errorf("cannot start the %s's end: %w", p.name, err)
	}
	p.stdin = stdin
	go func() {
		p.result = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready waits until the process says where its transport listens.
func (p *managedProxy) ready(ctx context.Context) (listener, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout,
		fmt.Errorf("it did not say where it listens within %v", handshakeTimeout))
	defer cancel()
	select {
	case h := <-p.shaken:
		return h.listener, p.fail(h.err)
	case <-ctx.Done():
		return listener{}, p.fail(context.Cause(ctx))
	case <-p.exited:
	}
	// Its last words may have been the reason.
	select {
	case h := <-p.shaken:
		return h.listener, p.fail(h.err)
	default:
		return listener{}, p.fail(fmt.Errorf("it ended (%s) before it said where it listens", p.cmd.ProcessState))
	}
}

// fail wraps an error with the process's name and what it said last.
func (p *managedProxy) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the %s's end: %w; it said last:\n%s", p.name, err, p.said())
}

func (p *managedProxy) remember(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, line)
	if len(p.tail) > tailLines {
		p.tail = p.tail[len(p.tail)-tailLines:]
	}
}

// said returns the last lines of the process.
func (p *managedProxy) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "\t" + strings.Join(p.tail, "\n\t")
}

// stop ends the process as tor would and waits until it is gone. One that has to
// be killed is an error.
func (p *managedProxy) stop() error {
	var errs []error
	if err := p.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	select {
	case <-p.exited:
		return errors.Join(errs...)
	case <-time.After(stopTimeout):
	}
	errs = append(errs, p.fail(fmt.Errorf("it did not end within %v of SIGTERM and had to be killed", stopTimeout)))
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(append(errs, err)...)
	}
	<-p.exited
	return errors.Join(errs...)
}

// maxLine is how many bytes of a line are kept, which is more than tor reads.
const maxLine = 64 << 10

// lineWriter passes on what is written to it line by line. What is longer than maxLine
// counts as several lines.
type lineWriter struct {
	line    func(string)
	partial []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte{'\n'})
		if !found && len(w.partial) > maxLine {
			line, rest, found = w.partial, nil, true
		}
		if !found {
			return len(p), nil
		}
		w.line(strings.TrimSuffix(string(line), "\r"))
		w.partial = rest
	}
}

// greeting understands the lines with which a transport process begins.
type greeting struct {
	keyword   string
	transport string
	done      func(handshake) // called once

	versioned bool
	found     *listener
	over      bool
}

func (g *greeting) finish(h handshake) {
	if !g.over {
		g.over = true
		g.done(h)
	}
}

// line takes the next line of standard output.
func (g *greeting) line(line string) {
	if g.over {
		return
	}
	keyword, rest, _ := strings.Cut(line, " ")
	switch {
	case keyword == "VERSION":
		g.versioned = rest == "1"
	case strings.HasSuffix(keyword, "-ERROR"):
		g.finish(handshake{err: errors.New(line)})
	case line == g.keyword+"S DONE":
		g.finish(g.outcome())
	case keyword == g.keyword:
		found, err := parseMethod(g.keyword, strings.Fields(rest))
		if err != nil {
			g.finish(handshake{err: fmt.Errorf("%q: %w", line, err)})
		} else if found.transport == g.transport {
			g.found = &found.listener
		}
	}
}

// outcome is what the transport process offers when it has said all.
func (g *greeting) outcome() handshake {
	switch {
	case !g.versioned:
		return handshake{err: errors.New("it does not speak version 1 of the protocol")}
	case g.found == nil:
		return handshake{err: fmt.Errorf("it does not offer the transport %q", g.transport)}
	default:
		return handshake{listener: *g.found}
	}
}

// method is a CMETHOD or SMETHOD line.
type method struct {
	transport string
	listener
}

// parseMethod understands the words after the keyword:
// "plain socks5 127.0.0.1:1080" or "plain 127.0.0.1:443 ARGS:k=v,k2=v2".
func parseMethod(keyword string, words []string) (method, error) {
	if keyword == clientMethod {
		if len(words) != 3 || words[1] != "socks5" {
			return method{}, errors.New("want a name, socks5 and an address")
		}
		return method{words[0], listener{address: words[2]}}, nil
	}
	if len(words) < 2 {
		return method{}, errors.New("want a name and an address")
	}
	found := method{words[0], listener{address: words[1]}}
	for _, word := range words[2:] {
		encoded, ok := strings.CutPrefix(word, "ARGS:")
		if !ok {
			continue // a later version's option
		}
		args, err := parseArguments(encoded)
		if err != nil {
			return method{}, err
		}
		found.args = args
	}
	return found, nil
}
