package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"waterproxy/internal/ptproc"
)

// ptConfig is how a managed pluggable transport is launched.
type ptConfig struct {
	command   []string
	transport string
	variables ptproc.Variables
	timeout   time.Duration
	echo      io.Writer // gets what the process writes, if not nil
}

// ptProcess is a running pluggable transport.
type ptProcess struct {
	*process
	method  ptproc.Method
	startup time.Duration // from the start to METHODS DONE
}

// launchPT starts a pluggable transport as tor starts it and waits until it has
// announced its method.
func launchPT(ctx context.Context, c ptConfig) (*ptProcess, error) {
	if err := os.MkdirAll(c.variables["TOR_PT_STATE_LOCATION"], 0o700); err != nil {
		return nil, err
	}
	proc, err := spawn(c.command, c.variables.AddTo(ptproc.CleanEnvironment()), true, c.echo)
	if err != nil {
		return nil, err
	}
	p := &ptProcess{process: proc}
	ready := make(chan error, 1)
	go func() {
		defer p.drained()
		ready <- p.negotiate(c)
	}()
	if err := p.readyOrExit(ctx, ready, c.timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w%s", p.name, err, p.stderr.quoted()), p.kill())
	}
	return p, nil
}

// negotiate reads standard output to the end of the negotiation.
func (p *ptProcess) negotiate(c ptConfig) error {
	hello := ptproc.NewNegotiation()
	var output io.Writer = hello
	if c.echo != nil {
		output = io.MultiWriter(hello, c.echo)
	}
	// A pipe's worth at a time: the rest of the output is read by drained.
	for buffer := make([]byte, 4096); ; {
		n, err := p.stdout.Read(buffer)
		if _, err := output.Write(buffer[:n]); err != nil {
			return err
		}
		select {
		case <-hello.Done():
			methods, at, err := hello.Methods()
			if err != nil {
				return err
			}
			p.startup = at.Sub(p.began)
			p.method, err = ptproc.Find(methods, c.transport)
			return err
		default:
		}
		if err != nil {
			return fmt.Errorf("standard output ended before the negotiation: %w", err)
		}
	}
}
