package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"waterproxy/bench/internal/holder"
	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// idleCommand is the subcommand that accounts idle connections, with the users
// of both of their ends in the processes that are accounted.
const idleCommand = "idle"

// idleFlags are the flags of that comparison.
type idleFlags struct {
	reportFlags
	contestants string
	module      string
	source      string
	timeout     time.Duration
}

// idleOptions are the default sizes of this comparison.
func idleOptions() measure.Options {
	o := measure.DefaultOptions()
	o.Idle = []int{10_000}
	o.IdleWatch = 10 * time.Second
	return o
}

func runIdle(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f idleFlags
	flags := flag.NewFlagSet("bench "+idleCommand, flag.ContinueOnError)
	flags.SetOutput(stderr)
	f.register(flags, idleOptions())
	flags.StringVar(&f.contestants, "contestants", floorName+","+dialerName, "what to compare: "+floorName+" (no library), "+dialerName+", "+connName)
	flags.StringVar(&f.module, "module", "", "module file (default modules/built/plain.wasm)")
	flags.StringVar(&f.source, "src", "", "root of the source tree, where the helper is built (default found upwards from here)")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute, "longest time to start a process or to open all connections")
	if err := flags.Parse(args); err != nil {
		return flagError(err)
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	options, _, err := f.options(flags)
	if err != nil {
		return usageError{err}
	}
	for _, name := range splitList(f.contestants) {
		if name != floorName && name != dialerName && name != connName {
			return usageError{fmt.Errorf("no contestant is called %q", name)}
		}
	}
	shop, err := newWorkshop(f.source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close()) }()
	helpers, err := shop.helpers(ctx, f.contestants, nil)
	if err != nil {
		return err
	}
	r := &idleRunner{
		helpers: helpers, options: options, rounds: f.runs, timeout: f.timeout,
		module: orElse(f.module, shop.plain()), cache: filepath.Join(shop.dir, "cache"),
		progress: newProgress(stderr),
		report: &report.Report{
			Title:   orElse(f.title, "Idle connections, with the users of both ends"),
			Machine: report.ThisMachine(),
			Options: options,
		},
	}
	if f.verbose {
		r.echo = stderr
	}
	var names []string
	for _, h := range helpers {
		names = append(names, h.name)
		r.report.Contestants = append(r.report.Contestants, report.Contestant{Name: h.name, About: h.about})
	}
	if r.report.Baseline, err = f.pickBaseline(names); err != nil {
		return usageError{err}
	}
	r.report.Notes = []string{
		fmt.Sprintf("rounds: %d, each with processes of its own: one dials all connections, one accepts them", f.runs),
		fmt.Sprintf("each connection carried a byte each way, idled for %v, and carried a byte each way again", options.IdleWatch),
		"RSS per connection is over that of the same process with one connection; 1 kB is 10^3 bytes",
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	return publish(stdout, f.jsonFile, r.report)
}

// idleRunner makes the rounds of the comparison.
type idleRunner struct {
	helpers  []helper
	options  measure.Options
	rounds   int
	module   string
	cache    string
	timeout  time.Duration
	echo     io.Writer // gets what the processes write, if not nil
	progress *progress
	report   *report.Report
}

func (r *idleRunner) run(ctx context.Context) error {
	if err := os.MkdirAll(r.cache, 0o700); err != nil {
		return err
	}
	began := time.Now()
	var metrics []measure.Metric
	for _, n := range r.options.Idle {
		metrics = append(metrics, measure.IdleMetrics(n, "dialer", "listener")...)
	}
	r.report.AddTest(idleCommand, r.rounds, metrics)
	for round := 1; round <= r.rounds; round++ {
		for i := range r.helpers {
			h := r.helpers[(round-1+i)%len(r.helpers)]
			r.progress.step(idleCommand, round, r.rounds, h.name)
			sample, err := r.measure(ctx, h)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.report.AddSample(h.name, round, sample)
			if err != nil {
				r.report.Fail(h.name, idleCommand, round, err)
			}
		}
	}
	r.progress.done(idleCommand, began)
	return nil
}

// measure makes one round for one contestant.
func (r *idleRunner) measure(ctx context.Context, h helper) (_ measure.Sample, err error) {
	request := holder.Request{Module: r.module, Cache: r.cache, Variant: h.variant}
	if h.direct {
		request.Module = ""
	}
	listener, err := launchHolder(ctx, h.executable, request, r.timeout, r.echo)
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	defer func() { err = errors.Join(err, listener.end()) }()
	request.Dial = listener.address
	dialer, err := launchHolder(ctx, h.executable, request, r.timeout, r.echo)
	if err != nil {
		return nil, fmt.Errorf("dialer: %w", err)
	}
	defer func() { err = errors.Join(err, dialer.end()) }()

	both := func(order string) error { return askBoth(ctx, dialer, listener, order, r.timeout) }
	// What either does only once is not to be in the figures.
	if err := both(holder.Open + " 1"); err != nil {
		return nil, err
	}
	path := &measure.Path{Client: dialer.account(), Server: listener.account()}
	fresh, err := path.Usage()
	if err != nil {
		return nil, err
	}
	out := measure.Sample{}
	open := 0
	for _, n := range r.options.Idle {
		begin := time.Now()
		if err := both(fmt.Sprintf("%s %d", holder.Open, n+1)); err != nil {
			return out, err
		}
		rate := float64(n-open) / time.Since(begin).Seconds()
		state, err := path.WatchIdle(ctx, n, fresh, r.options.IdleWatch)
		if err != nil {
			return out, err
		}
		state.Rate, open = rate, n
		maps.Copy(out, state.Sample())
	}
	return out, both(holder.Check)
}
