package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// startupTest is the name of the one test that starts and stops processes itself.
const startupTest = "startup"

// runner runs the tests over all contestants. Each test goes round by round over
// the contestants, so that what else the machine does meanwhile hits all alike,
// and each round begins with another one, so that none always follows the same.
type runner struct {
	contestants []*contestant
	tests       []measure.Test
	startup     bool
	rounds      int
	origin      *measure.Origin
	state       string // parent of all state directories
	timeout     time.Duration
	echo        io.Writer // gets what the processes write, if not nil
	progress    *progress
	report      *report.Report
	front       *front // nil until a contestant is behind it
}

// startedFront returns the front of this run, which it starts the first time.
func (r *runner) startedFront(ctx context.Context) (f *front, err error) {
	if r.front == nil {
		r.front, err = startFront(ctx, filepath.Join(r.state, "front"), launch{timeout: r.timeout, echo: r.echo})
	}
	return r.front, err
}

// close stops the front.
func (r *runner) close() error {
	if r.front == nil {
		return nil
	}
	return r.front.stop()
}

// run runs everything that was asked for. Failures go to the report; only the
// end of the context is returned.
func (r *runner) run(ctx context.Context) error {
	if r.startup {
		if err := r.runStartup(ctx); err != nil {
			return err
		}
	}
	for _, t := range r.tests {
		rounds := r.rounds
		if t.Once {
			rounds = 1
		}
		r.report.AddTest(t.Name, rounds, t.Metrics)
		if err := r.runTest(ctx, t, rounds); err != nil {
			return err
		}
	}
	return nil
}

// order is the contestants as round (from 1) takes them.
func (r *runner) order(round int) []*contestant {
	n := len(r.contestants)
	out := make([]*contestant, 0, n)
	for i := range n {
		out = append(out, r.contestants[(round-1+i)%n])
	}
	return out
}

// start brings a contestant up with its lasting state directory, so that what it
// caches there is found by every test after the first.
func (r *runner) start(ctx context.Context, c *contestant, dir string) (*session, error) {
	return c.start(ctx, launch{
		origin:  r.origin.Addr(),
		state:   filepath.Join(r.state, dir),
		timeout: r.timeout,
		echo:    r.echo,
		front:   r.startedFront,
	})
}

// stateName makes a contestant's name a file name.
func stateName(name string) string {
	return strings.Map(func(c rune) rune {
		if c == '/' || c == os.PathSeparator {
			return '_'
		}
		return c
	}, name)
}

// runTest starts every contestant afresh, runs the rounds, and stops them. One
// that fails a round is started afresh before the next, since what a failure
// leaves behind must not count a second time; so is every one if the test needs
// that.
func (r *runner) runTest(ctx context.Context, t measure.Test, rounds int) error {
	began := time.Now()
	sessions := make(map[string]*session)
	defer func() {
		for _, c := range r.contestants {
			r.end(sessions, c, t.Name, 0)
		}
		r.progress.done(t.Name, began)
	}()
	for _, c := range r.contestants {
		r.begin(ctx, sessions, c, t.Name, 1)
	}
	for round := 1; round <= rounds; round++ {
		for _, c := range r.order(round) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.progress.step(t.Name, round, rounds, c.name)
			if sessions[c.name] == nil && round > 1 {
				r.begin(ctx, sessions, c, t.Name, round)
			}
			s := sessions[c.name]
			if s == nil {
				continue // the failure to start is in the report
			}
			sample, err := t.Run(ctx, s.path(r.origin, r.timeout), round)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err = errors.Join(err, s.running())
			r.report.AddSample(c.name, round, sample)
			if err != nil {
				r.report.Fail(c.name, t.Name, round, err)
			}
			if err != nil || t.Fresh {
				r.end(sessions, c, t.Name, round)
			}
		}
	}
	return nil
}

// begin starts a contestant for a round of a test and reports if it cannot.
func (r *runner) begin(ctx context.Context, sessions map[string]*session, c *contestant, test string, round int) {
	s, err := r.start(ctx, c, stateName(c.name))
	if err != nil {
		if ctx.Err() == nil {
			r.report.Fail(c.name, test, round, fmt.Errorf("start: %w", err))
		}
		return
	}
	sessions[c.name] = s
}

// end stops a contestant, if it is up, and reports if it does not stop by itself.
func (r *runner) end(sessions map[string]*session, c *contestant, test string, round int) {
	s := sessions[c.name]
	if s == nil {
		return
	}
	delete(sessions, c.name)
	crashed := s.running() != nil // reported by the round in which it happened
	if _, _, err := s.stop(); err != nil && !crashed {
		r.report.Fail(c.name, test, round, fmt.Errorf("stop: %w", err))
	}
}

// startup describes the start-up test. It has no Run, which would be for a
// contestant that is up already.
func startup() measure.Test {
	return measure.Test{
		Name:  startupTest,
		About: "start with an empty state directory and with a used one, first connection, exit",
		Metrics: []measure.Metric{
			{Key: "start_cold_client", Label: "start-up, empty state, client", Unit: "ms", Better: measure.Lower},
			{Key: "start_cold_server", Label: "start-up, empty state, server", Unit: "ms", Better: measure.Lower},
			{Key: "start_warm_client", Label: "start-up, warm, client", Unit: "ms", Better: measure.Lower},
			{Key: "start_warm_server", Label: "start-up, warm, server", Unit: "ms", Better: measure.Lower},
			{Key: "first_conn_cold", Label: "first connection, empty state", Unit: "ms", Better: measure.Lower},
			{Key: "first_conn_warm", Label: "first connection, warm", Unit: "ms", Better: measure.Lower},
			{Key: "exit_client", Label: "exit after stdin closes, client", Unit: "ms", Better: measure.Lower},
			{Key: "exit_server", Label: "exit after stdin closes, server", Unit: "ms", Better: measure.Lower},
		},
	}
}

// runStartup starts each contestant twice in a round: with an empty state
// directory and with what the first start left there.
func (r *runner) runStartup(ctx context.Context) error {
	began := time.Now()
	r.report.AddTest(startupTest, r.rounds, startup().Metrics)
	for round := 1; round <= r.rounds; round++ {
		for _, c := range r.order(round) {
			if !c.processes {
				continue
			}
			r.progress.step(startupTest, round, r.rounds, c.name)
			sample, err := r.startTwice(ctx, c, filepath.Join("startup", fmt.Sprint(round), stateName(c.name)))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.report.AddSample(c.name, round, sample)
			if err != nil {
				r.report.Fail(c.name, startupTest, round, err)
			}
		}
	}
	r.progress.done(startupTest, began)
	return nil
}

// startTwice measures the start, the first connection and the exit, first with an
// empty state directory and then with a used one.
func (r *runner) startTwice(ctx context.Context, c *contestant, dir string) (measure.Sample, error) {
	out := measure.Sample{}
	for _, state := range []string{"cold", "warm"} {
		s, err := r.start(ctx, c, dir)
		if err != nil {
			return out, fmt.Errorf("%s start: %w", state, err)
		}
		link, err := s.path(r.origin, r.timeout).Open(ctx)
		if err == nil {
			out["first_conn_"+state] = milliseconds(link.Setup)
			err = link.CloseNear(ctx)
			link.Abort()
		}
		hasServer := s.server != nil
		client, server, stopErr := s.stop()
		if err := errors.Join(err, stopErr); err != nil {
			return out, fmt.Errorf("%s: %w", state, err)
		}
		out["start_"+state+"_client"] = milliseconds(s.clientStartup)
		if hasServer {
			out["start_"+state+"_server"] = milliseconds(s.serverStartup)
		}
		if !c.exitsOnStdin {
			continue
		}
		out["exit_client"] = milliseconds(client)
		if hasServer {
			out["exit_server"] = milliseconds(server)
		}
	}
	return out, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
