// Package examine runs both sides of a transport on loopback, under a recorder, and reports
// what others see of it: by the published rules of censors, to probers, and at what cost.
package examine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"waterproxy/internal/examine/record"
)

// Options say what is examined, and how much.
type Options struct {
	Pair Pair
	// Commands says that the two sides are commands that the user gave.
	Commands bool
	// Plain is the transport beside which the cost is measured; nil: none.
	Plain *Pair
	// Connections is how many connections are recorded in all; AtOnce how many of them run
	// at the same time.
	Connections, AtOnce int
	// Recorder is the address at which the recorder listens.
	Recorder string
	// Probes is how many probers of each kind there are; none with 0. ProbeTime is how long
	// each waits.
	Probes    int
	ProbeTime time.Duration
	// Cost says whether speed, memory and survival are looked at; Rounds how often speed is
	// measured.
	Cost   bool
	Rounds int
	// Limited makes settings of the server's transport with other limits, in a folder, and
	// returns the words that a command takes for them; nil if its limits cannot be set.
	Limited func(dir string, limits map[string]any) ([]string, error)
	// Progress is called with how far each stage is, in percent.
	Progress func(stage string, percent int)
}

// The stages of an examination.
const (
	StageStart  = "start"
	StageRecord = "record"
	StageProbe  = "probe"
	StageCost   = "cost"
)

// Stages says what happens in each.
var Stages = map[string]string{
	StageStart:  "both sides",
	StageRecord: "recording connections",
	StageProbe:  "probing the server",
	StageCost:   "speed and memory",
}

// The defaults of Options.
const (
	DefaultConnections = 200
	DefaultAtOnce      = 8
	DefaultProbes      = 100
	DefaultProbeTime   = 95 * time.Second
	DefaultRounds      = 5
)

// Run examines a transport. When it returns, nothing that it has started runs, and its files
// are gone.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	dir, err := os.MkdirTemp("", "waterproxy-examine-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &Report{Transport: o.Pair.Transport, Began: time.Now().UTC().Truncate(time.Second), Connections: o.Connections}
	began := time.Now()
	if o.Commands {
		r.Commands = []string{commandText(o.Pair.Client), commandText(o.Pair.Server)}
	}
	e := &examination{Options: o, report: r, dir: dir}
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	if o.Cost {
		if err := e.cost(ctx); err != nil {
			return nil, err
		}
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}

// examination is one that goes on.
type examination struct {
	Options
	report *Report
	dir    string

	pair     Pair // with the recorder's address
	recorder *record.Recorder
	origin   *origin
	server   *server
	client   *client
	flows    []flow
}

// run records connections and probes the server.
func (e *examination) run(ctx context.Context) (err error) {
	if e.recorder, err = record.Listen(e.Recorder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.recorder.Close()) }()
	if e.origin, err = newOrigin(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.origin.close()) }()
	e.pair = e.Pair.expand(e.recorder.Address())
	e.Progress(StageStart, 0)
	if e.server, err = e.pair.startServer(ctx, filepath.Join(e.dir, "server"), "", e.origin.address()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.server.Stop()) }()
	e.recorder.ForwardTo(e.server.public)
	if e.client, err = e.pair.startClient(ctx, filepath.Join(e.dir, "client"), e.server); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.client.Stop()) }()
	e.Progress(StageStart, 100)
	if err := e.record(ctx); err != nil {
		return e.explain(ctx, err)
	}
	if err := e.report.observe(e.flows); err != nil {
		return err
	}
	if e.Probes > 0 {
		return e.probe(ctx)
	}
	return nil
}

// explain adds what the two sides wrote to an error, unless it is the end of ctx.
func (e *examination) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w\nthe server wrote last:\n%s\nthe client wrote last:\n%s", err, e.server.Tail(), e.client.Tail())
}

// alone is how many connections are made one after the other: of these it is known which
// flow is whose.
const alone = 3

// record has the connections made, kind after kind, so that what each flow carries is known.
func (e *examination) record(ctx context.Context) error {
	e.Progress(StageRecord, 0)
	done := 0
	for i, kind := range Kinds {
		before := len(e.recorder.Flows())
		n := e.Connections / len(Kinds)
		if i < e.Connections%len(Kinds) {
			n++
		}
		if i == 0 {
			for range min(alone, n) {
				if err := e.measureRoundTrips(ctx, kind); err != nil {
					return fmt.Errorf("%s: %w", kind, err)
				}
			}
			n -= min(alone, n)
			done += min(alone, e.Connections)
		}
		if err := e.together(ctx, kind, n, &done); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		for _, f := range e.recorder.Flows()[before:] {
			e.flows = append(e.flows, flow{Flow: f, kind: kind})
		}
	}
	if len(e.flows) == 0 {
		return fmt.Errorf("no connection came through the recorder at %s: the client connects elsewhere; see the words {recorder} and -front", e.recorder.Address())
	}
	e.roundTripsFinding()
	return nil
}

// together has n conversations held, some at once. The first error ends all.
func (e *examination) together(ctx context.Context, kind Kind, n int, done *int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, e.AtOnce)
	var all sync.WaitGroup
	var mu sync.Mutex
	for range n {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-places }()
			if _, err := e.converse(ctx, kind); err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			*done++
			e.Progress(StageRecord, *done*100/e.Connections)
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// converse holds one conversation through both sides.
func (e *examination) converse(ctx context.Context, kind Kind) (*conversation, error) {
	c := e.origin.expect(kind)
	ctx, cancel := context.WithTimeout(ctx, conversationLimit)
	defer cancel()
	conn, err := e.client.dial(ctx, e.recorder.Address(), e.server.args)
	if err != nil {
		return nil, err
	}
	return c, e.origin.talk(ctx, conn, c)
}

// measureRoundTrips holds one conversation alone, and counts how often its client waited
// before payload arrived: the most that any has. Over a flow that was there before, it is 0.
func (e *examination) measureRoundTrips(ctx context.Context, kind Kind) error {
	before := len(e.recorder.Flows())
	c, err := e.converse(ctx, kind)
	if err != nil {
		return err
	}
	for _, f := range e.recorder.Flows()[before:] {
		e.report.Lengths.RoundTrips = max(e.report.Lengths.RoundTrips, roundTrips(&f, c.arrived))
	}
	return nil
}

func (e *examination) roundTripsFinding() {
	r := e.report
	r.add(SectionLengths, "round trips before data", Info, "", fmt.Sprint(r.Lengths.RoundTrips),
		"How often the client waits for the server before the first byte of payload arrives; TLS 1.3 has 1, with HTTP Upgrade 2.")
	value, meaning := fmt.Sprintf("%d over %d", r.Connections, len(e.flows)), "Each has a TCP connection of its own."
	if len(e.flows) < r.Connections {
		meaning = "Several share one; then requests and answers alternate more often than in most flows, which is a fingerprint of its own."
	} else if len(e.flows) > r.Connections {
		meaning = "Some have more than one TCP connection, as after an attempt that failed."
	}
	r.add(SectionLengths, "connections", Info, "", value, meaning)
}

// commandText writes a command for people.
func commandText(words []string) string {
	text := ""
	for i, w := range words {
		if i > 0 {
			text += " "
		}
		text += w
	}
	return text
}
