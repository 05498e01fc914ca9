// Command bench compares ways to carry a connection: pluggable transports,
// SOCKS5 proxies, a relay that only copies, and plain TCP.
//
//	go run ./bench                                  # tcp, relay, obfs4proxy, waterproxy:plain
//	go run ./bench -quick -contestants tcp,relay
//	go run ./bench -contestants relay,waterproxy:plain -tests up1,down1 -runs 9
//	go run ./bench -pt 'mine=./mine -client|./mine -server|obfs4|iat-mode=0'
//	go run ./bench runtime                          # WATM runtime libraries, one side only
//	go run ./bench idle                             # 10,000 connections, each side in one process
//	go run ./bench charts FILE.json                 # drawings of what -json has written
//
// It plays tor on both sides: it launches the transports as managed proxies
// (version 1 of the PT specification), speaks SOCKS5 to the client with the
// arguments that the server announced, and is the ORPort. All contestants are
// measured in one run, in turn, round by round, because machines are shared: the
// ratios between contestants are taken within a round, where both saw the same
// conditions. All traffic stays on the loopback interface.
//
// The report on standard output is Markdown. Exit status 1 means that something
// failed or that a byte was lost, 2 that the command line was wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// errFailed means that the run ended and that its report lists failures.
var errFailed = errors.New("there were failures")

// usageError is an error in the command line.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case hopCommand:
			return runHop(args[1:], os.Stdin, os.Stdout)
		case runtimeCommand:
			return runRuntimes(ctx, args[1:], os.Stdout, os.Stderr)
		case chartsCommand:
			return runCharts(args[1:], os.Stdout, os.Stderr)
		case idleCommand:
			return runIdle(ctx, args[1:], os.Stdout, os.Stderr)
		case threadsCommand:
			return runThreads(ctx, args[1:], os.Stdout, os.Stderr)
		}
	}
	return runPairs(ctx, args, os.Stdout, os.Stderr)
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// pairFlags are the flags of a comparison of pairs.
type pairFlags struct {
	sizeFlags
	contestants string
	pts, socks  list
	exe         string
	state       string
	timeout     time.Duration
}

// runPairs compares pairs of processes.
func runPairs(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f pairFlags
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	f.register(flags, measure.DefaultOptions())
	flags.StringVar(&f.contestants, "contestants", "tcp,relay,obfs4proxy,waterproxy:plain",
		"presets, separated by commas: tcp, relay (two hops), relay1 (one hop), obfs4proxy, lyrebird (make peers), shadowsocks[:method], webtunnel[:FINGERPRINT] (make peers), waterproxy:TRANSPORT[:INSTANCES], waterproxy-web:TRANSPORT[:INSTANCES]")
	flags.Usage = usage(flags, append([]measure.Test{startup()}, measure.Suite(measure.DefaultOptions())...))
	flags.Var(&f.pts, "pt", "add a PT pair `name=client|server|transport[|client-args[|server-args]]` (may be repeated)")
	flags.Var(&f.socks, "socks", "add a SOCKS5 proxy `name=client|server` with {clientport} and {serverport} in the commands (may be repeated)")
	flags.StringVar(&f.exe, "exe", "./waterproxy", "executable of the waterproxy presets")
	flags.StringVar(&f.state, "state", "", "parent of the state directories, kept (default a temporary one)")
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "longest time to start a process or to open a connection")
	if err := flags.Parse(args); err != nil {
		return flagError(err)
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	options, err := f.options(flags)
	if err != nil {
		return usageError{err}
	}
	contestants, err := f.build()
	if err != nil {
		return usageError{err}
	}
	r := &runner{
		contestants: contestants, rounds: f.runs, timeout: f.timeout,
		state: f.state, progress: newProgress(stderr),
		report: &report.Report{
			Title:   orElse(f.title, "Pairs: client and server, end to end"),
			Machine: report.ThisMachine(),
			Options: options,
		},
	}
	var names []string
	for _, c := range contestants {
		names = append(names, c.name)
		r.report.Contestants = append(r.report.Contestants, report.Contestant{Name: c.name, About: c.about})
	}
	if r.report.Baseline, err = f.pickBaseline(names); err != nil {
		return usageError{err}
	}
	if r.tests, r.startup, err = f.pick(measure.Suite(options), true); err != nil {
		return usageError{err}
	}
	if f.verbose {
		r.echo = stderr
	}
	r.report.Notes = sizeNotes(options, f.runs)

	if r.state == "" {
		if r.state, err = os.MkdirTemp("", "waterproxy-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(r.state)) }()
	}
	if r.origin, err = measure.NewOrigin(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.origin.Close(), r.close()) }()
	if err := r.run(ctx); err != nil {
		return err
	}
	return publish(stdout, f.jsonFile, r.report)
}

// build makes the contestants.
func (f *pairFlags) build() ([]*contestant, error) {
	var out []*contestant
	for _, name := range splitList(f.contestants) {
		c, err := preset(name, f.exe)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for _, spec := range f.pts {
		p, err := parsePair(spec)
		if err != nil {
			return nil, err
		}
		c, err := managedPair(p)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for _, spec := range f.socks {
		c, err := parseSOCKS(spec)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no contestants")
	}
	seen := make(map[string]bool)
	for _, c := range out {
		if seen[c.name] {
			return nil, fmt.Errorf("two contestants are called %s", c.name)
		}
		seen[c.name] = true
	}
	return out, nil
}

// publish writes the reports; the error means that something in them failed.
func publish(stdout io.Writer, jsonFile string, reports ...*report.Report) error {
	failures := 0
	for i, r := range reports {
		if i > 0 {
			if _, err := io.WriteString(stdout, "\n"); err != nil {
				return err
			}
		}
		if err := r.WriteMarkdown(stdout); err != nil {
			return err
		}
		failures += len(r.Failures())
	}
	if jsonFile != "" {
		if err := writeJSONFile(jsonFile, reports); err != nil {
			return err
		}
	}
	if failures > 0 {
		return fmt.Errorf("%w: %d, listed at the end of the report", errFailed, failures)
	}
	return nil
}

func writeJSONFile(name string, reports []*report.Report) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := report.WriteJSON(f, reports...); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func sizeNotes(o measure.Options, runs int) []string {
	return []string{
		fmt.Sprintf("rounds: %d; bulk: up to %d MiB or %v of sending, writes of %d KiB; up to %d set-ups or %v of them, %d round trips a round",
			runs, o.Size>>20, o.Limit, o.Chunk>>10, o.Setups, o.Limit, o.Pings),
		"CPU is of the measured processes only, not of the harness, which shares the cores with them; 1 MB is 10^6 bytes, 1 kB 10^3",
	}
}
