package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"waterproxy/bench/internal/oneside"
	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// runtimeCommand is the subcommand that compares runtime libraries.
const runtimeCommand = "runtime"

// runtimeFlags are the flags of a comparison of runtime libraries.
type runtimeFlags struct {
	sizeFlags
	contestants string
	helpers     list
	modules     string
	source      string
	timeout     time.Duration
	helperLimit time.Duration
}

// runtimeOptions are the default sizes of this comparison.
func runtimeOptions() measure.Options {
	o := measure.DefaultOptions()
	o.Idle = []int{100}
	return o
}

// runRuntimes compares runtime libraries on the same module files, one side of a
// connection only.
func runRuntimes(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var f runtimeFlags
	flags := flag.NewFlagSet("bench "+runtimeCommand, flag.ContinueOnError)
	flags.SetOutput(stderr)
	f.register(flags, runtimeOptions())
	flags.StringVar(&f.contestants, "contestants", strings.Join([]string{floorName, connName, dialerName}, ","),
		"what to compare: "+floorName+" (no library), "+connName+" and "+dialerName+" (each also with "+spliceSuffix+"), "+peerName+" ("+peerModule+")")
	flags.Usage = usage(flags, oneside.Suite(runtimeOptions()))
	flags.Var(&f.helpers, "helper", "add a helper executable, `name=file[,variant]`, such as one built from an earlier version (may be repeated)")
	flags.StringVar(&f.modules, "modules", "", "module files, separated by commas (default modules/built/plain.wasm; with "+peerName+", those that it publishes); they must not change the bytes")
	flags.StringVar(&f.source, "src", "", "root of the source tree, where the helpers are built (default found upwards from here)")
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "longest time to open a connection")
	flags.DurationVar(&f.helperLimit, "helper-limit", 3*time.Minute, "longest time for one round of one test")
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
	options.OneSided = true
	tests, _, err := f.pick(oneside.Suite(options), false)
	if err != nil {
		return usageError{err}
	}
	shop, err := newWorkshop(f.source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.close()) }()
	helpers, err := shop.helpers(ctx, f.contestants, f.helpers)
	if err != nil {
		return err
	}
	var names []string
	for _, h := range helpers {
		names = append(names, h.name)
	}
	baseline, err := f.pickLibraryBaseline(names)
	if err != nil {
		return usageError{err}
	}
	modules := splitList(f.modules)
	if len(modules) == 0 {
		modules = []string{shop.plain()}
		if slices.Contains(names, peerName) {
			if modules, err = shop.published(ctx); err != nil {
				return err
			}
		}
	}
	var reports []*report.Report
	for _, module := range modules {
		r := &runtimeRunner{
			flags: &f, helpers: helpers, tests: tests, dir: shop.dir, options: options,
			progress: newProgress(stderr), stderr: stderr,
			report: &report.Report{Machine: report.ThisMachine(), Options: options, Baseline: baseline},
		}
		if err := r.describe(module); err != nil {
			return err
		}
		if err := r.run(ctx, module); err != nil {
			return err
		}
		reports = append(reports, r.report)
	}
	return publish(stdout, f.jsonFile, reports...)
}

// runtimeRunner compares the libraries on one module.
type runtimeRunner struct {
	flags    *runtimeFlags
	helpers  []helper
	tests    []measure.Test
	dir      string
	options  measure.Options
	progress *progress
	stderr   io.Writer
	report   *report.Report
}

// describe fills in the report's words about the module and the contestants.
func (r *runtimeRunner) describe(module string) error {
	wasm, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(wasm)
	r.report.Title = orElse(r.flags.title, "Runtime libraries, one side") + ": " + shortName(module)
	r.report.Notes = append(sizeNotes(r.options, r.flags.runs),
		fmt.Sprintf("module of %d bytes, SHA-256 %s", len(wasm), hex.EncodeToString(sum[:])[:12]),
		"each round of each test is a process of its own, which holds both ends of every connection: memory, threads and CPU include the harness, whose share is in the column "+floorName)
	for _, h := range r.helpers {
		r.report.Contestants = append(r.report.Contestants, report.Contestant{Name: h.name, About: h.about})
	}
	return nil
}

// shortName is the end of a path, enough to tell published modules apart.
func shortName(path string) string {
	parts := strings.Split(filepath.ToSlash(filepath.Clean(path)), "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "water@") {
			return strings.Join(parts[i:], "/")
		}
	}
	return parts[len(parts)-1]
}

func (r *runtimeRunner) run(ctx context.Context, module string) error {
	for _, t := range r.tests {
		began := time.Now()
		rounds := r.flags.runs
		if t.Once {
			rounds = 1
		}
		r.report.AddTest(t.Name, rounds, t.Metrics)
		for round := 1; round <= rounds; round++ {
			for i := range r.helpers {
				h := r.helpers[(round-1+i)%len(r.helpers)]
				if t.Name == oneside.CompileTest && h.direct {
					continue
				}
				r.progress.step(t.Name, round, rounds, h.name)
				sample, err := r.measure(ctx, h, module, t.Name, round)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.report.AddSample(h.name, round, sample)
				if err != nil {
					r.report.Fail(h.name, t.Name, round, err)
				}
			}
		}
		r.progress.done(t.Name, began)
	}
	return nil
}

// measure makes one round of one test. What a library caches, it keeps from one
// round to the next, except in the compile test.
func (r *runtimeRunner) measure(ctx context.Context, h helper, module, test string, round int) (measure.Sample, error) {
	if test != oneside.CompileTest {
		cache := filepath.Join(r.dir, "cache", stateName(h.name))
		return r.ask(ctx, h, module, test, round, cache)
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "empty"), 0o700); err != nil {
		return nil, err
	}
	cache, err := os.MkdirTemp(filepath.Join(r.dir, "empty"), "")
	if err != nil {
		return nil, err
	}
	cold, err := r.ask(ctx, h, module, test, round, cache)
	if err != nil {
		return nil, fmt.Errorf("empty cache: %w", err)
	}
	warm, err := r.ask(ctx, h, module, test, round, cache)
	if err != nil {
		return nil, fmt.Errorf("used cache: %w", err)
	}
	return oneside.MergeCompile(cold, warm), nil
}

// ask has a helper make one round of one test.
func (r *runtimeRunner) ask(ctx context.Context, h helper, module, test string, round int, cache string) (measure.Sample, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	request := oneside.Request{
		Module: module, Cache: cache, Variant: h.variant, Test: test, Round: round,
		Options: r.options, Timeout: r.flags.timeout, Result: filepath.Join(r.dir, "result.json"),
	}
	if h.direct {
		request.Module = ""
	}
	if err := os.Remove(request.Result); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	argument, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, r.flags.helperLimit)
	defer cancel()
	output := &excerpt{}
	if r.flags.verbose {
		output.echo = r.stderr
	}
	cmd := exec.CommandContext(limit, h.executable, string(argument))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(os.Environ(), "TMPDIR="+cache)
	cmd.WaitDelay = exitLimit
	if err := cmd.Run(); err != nil {
		if limit.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("killed after %v: %w", r.flags.helperLimit, err)
		}
		return nil, fmt.Errorf("helper: %w%s", err, output.quoted())
	}
	b, err := os.ReadFile(request.Result)
	if err != nil {
		return nil, err
	}
	var result oneside.Result
	if err := json.Unmarshal(b, &result); err != nil {
		return nil, fmt.Errorf("helper's result: %w", err)
	}
	if result.Error != "" {
		return result.Sample, errors.New(result.Error)
	}
	return result.Sample, nil
}
