package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// ptConfig is how a managed pluggable transport is launched.
type ptConfig struct {
	command   []string
	transport string
	state     string    // state directory
	orport    string    // where a server sends its connections; empty for a client
	options   arguments // of a server
	timeout   time.Duration
	echo      io.Writer // gets what the process writes, if not nil
}

// ptProcess is a running pluggable transport.
type ptProcess struct {
	*process
	method  methodLine
	startup time.Duration // from the start to METHODS DONE
}

// launchPT starts a pluggable transport as tor starts it and waits until it has
// announced its method.
func launchPT(ctx context.Context, c ptConfig) (*ptProcess, error) {
	if err := os.MkdirAll(c.state, 0o700); err != nil {
		return nil, err
	}
	proc, err := spawn(c.command, c.environment(), true, c.echo)
	if err != nil {
		return nil, err
	}
	p := &ptProcess{process: proc}
	type result struct {
		method methodLine
		at     time.Time
	}
	results, ready := make(chan result, 1), make(chan error, 1)
	go func() {
		defer p.drained()
		method, err := readHandshake(p.stdout, c)
		results <- result{method, time.Now()}
		ready <- err
	}()
	if err := p.readyOrExit(ctx, ready, c.timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w%s", p.name, err, p.stderr.quoted()), p.kill())
	}
	r := <-results
	p.method, p.startup = r.method, r.at.Sub(p.began)
	return p, nil
}

// environment is what tor would set, and nothing that a tor around us has set.
func (c ptConfig) environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TOR_PT_") {
			env = append(env, e)
		}
	}
	env = append(env,
		"TOR_PT_MANAGED_TRANSPORT_VER=1",
		"TOR_PT_STATE_LOCATION="+c.state,
		"TOR_PT_EXIT_ON_STDIN_CLOSE=1")
	if c.orport == "" {
		return append(env, "TOR_PT_CLIENT_TRANSPORTS="+c.transport)
	}
	env = append(env,
		"TOR_PT_SERVER_TRANSPORTS="+c.transport,
		"TOR_PT_SERVER_BINDADDR="+c.transport+"-127.0.0.1:0",
		"TOR_PT_ORPORT="+c.orport)
	if len(c.options) > 0 {
		env = append(env, "TOR_PT_SERVER_TRANSPORT_OPTIONS="+c.options.serverOptions(c.transport))
	}
	return env
}

// readHandshake reads lines up to CMETHODS DONE or SMETHODS DONE.
func readHandshake(r io.Reader, c ptConfig) (methodLine, error) {
	done := "CMETHODS DONE"
	if c.orport != "" {
		done = "SMETHODS DONE"
	}
	var method methodLine
	version := false
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if c.echo != nil && line != "" {
			if _, err := io.WriteString(c.echo, line); err != nil {
				return method, err
			}
		}
		if err != nil {
			return method, fmt.Errorf("standard output ended before %q: %w", done, err)
		}
		line = strings.TrimRight(line, "\r\n")
		keyword, _, _ := strings.Cut(line, " ")
		if strings.HasSuffix(keyword, "-ERROR") {
			return method, errors.New(line)
		}
		if line == "VERSION 1" {
			version = true
			continue
		}
		if line == done {
			break
		}
		m, ok, err := parseMethodLine(line, c.transport)
		if err != nil {
			return method, err
		}
		if ok {
			method = m
		}
	}
	if !version {
		return method, errors.New("no line VERSION 1")
	}
	if method.addr == "" {
		return method, fmt.Errorf("the transport %s was not announced", c.transport)
	}
	return method, nil
}
