package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
	"waterproxy/transport"
)

// threadsCommand is the subcommand that measures what a module gains from threads.
const threadsCommand = "threads"

// threadsFlags are the flags of that.
type threadsFlags struct {
	reportFlags
	module string
	window time.Duration
}

// runThreads has one connection carry bytes through a module with one worker, and
// with two.
func runThreads(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f threadsFlags
	flags := flag.NewFlagSet("bench "+threadsCommand, flag.ContinueOnError)
	flags.SetOutput(stderr)
	f.register(flags, measure.DefaultOptions())
	flags.StringVar(&f.module, "module", "", "module file, which takes \"workers 1\" and \"workers 2\" as its configuration (default transport/testmodules/built/threads.wasm)")
	flags.DurationVar(&f.window, "window", 2*time.Second, "how long bytes are counted in a round")
	if err := flags.Parse(args); err != nil {
		return flagError(err)
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	options, given, err := f.options(flags)
	if err != nil {
		return usageError{err}
	}
	if !given("window") {
		f.window = 200 * time.Millisecond
	}
	if f.module == "" {
		root, err := sourceRoot()
		if err != nil {
			return usageError{err}
		}
		f.module = filepath.Join(root, "transport", "testmodules", "built", "threads.wasm")
	}
	module, err := transport.CompileFile(f.module, transport.CompileOptions{})
	if err != nil {
		return err
	}
	r := &report.Report{
		Title:   orElse(f.title, "Threads in a module, one side of one connection"),
		Machine: report.ThisMachine(), Options: options,
		Notes: []string{
			fmt.Sprintf("rounds: %d; bytes are counted for %v of each, in %d turns, after a fifth of that to warm up; 1 MB is 10^6 bytes", f.runs, f.window, turns),
			"ChaCha20 in both directions, by one thread or by one for each; the user of the connection and its peer, on plain TCP, are in the same process, and share the cores with the module",
		},
	}
	for _, w := range workerCounts {
		r.Contestants = append(r.Contestants, report.Contestant{Name: w.name, About: w.about})
	}
	r.Baseline = workerCounts[0].name
	show := newProgress(stderr)
	for _, t := range threadTests {
		began := time.Now()
		r.AddTest(t.Key, f.runs, []measure.Metric{t.Metric})
		for round := 1; round <= f.runs; round++ {
			f.round(ctx, module, t, round, r, show)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		show.done(t.Key, began)
	}
	return publish(stdout, f.jsonFile, r)
}

// workerCounts are what is compared.
var workerCounts = []struct {
	name, about string
	count       int
}{
	{"1 worker", "a thread that carries both directions", 1},
	{"2 workers", "a thread for each direction", 2},
}

// threadTest is which directions are busy.
type threadTest struct {
	measure.Metric
	up, down bool
}

var threadTests = []threadTest{
	{measure.Metric{Key: "threads_duplex", Label: "both directions at once, sum", Unit: "MB/s", Better: measure.Higher}, true, true},
	{measure.Metric{Key: "threads_up", Label: "upload", Unit: "MB/s", Better: measure.Higher}, true, false},
	{measure.Metric{Key: "threads_down", Label: "download", Unit: "MB/s", Better: measure.Higher}, false, true},
}

// turns is into how many pieces a round is parted, so that what else the machine does
// meets all alike.
const turns = 5

// round measures all contestants by turns.
func (f *threadsFlags) round(ctx context.Context, module *transport.Module, t threadTest, round int, r *report.Report, show *progress) {
	sums := make([]float64, len(workerCounts))
	failed := make([]bool, len(workerCounts))
	for turn := range turns {
		for i := range workerCounts {
			i = (round - 1 + turn + i) % len(workerCounts)
			w := workerCounts[i]
			if failed[i] || ctx.Err() != nil {
				continue
			}
			show.step(t.Key, round, f.runs, w.name)
			speed, err := f.measure(ctx, module, w.count, t)
			if err != nil {
				failed[i] = true
				r.Fail(w.name, t.Key, round, err)
			}
			sums[i] += speed
		}
	}
	for i, w := range workerCounts {
		if !failed[i] && ctx.Err() == nil {
			r.AddSample(w.name, round, measure.Sample{t.Key: sums[i] / turns})
		}
	}
}

// measure returns the speed of a connection, in megabytes per second.
func (f *threadsFlags) measure(ctx context.Context, module *transport.Module, workers int, t threadTest) (speed float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	d, err := transport.NewRuntimeConnDialer(transport.Config{
		Module: module, ModuleConfig: fmt.Appendf(nil, "workers %d\n", workers),
	})
	if err != nil {
		return 0, err
	}
	near, err := d.Dial(ctx, "tcp", l.Addr().String(), nil)
	if err != nil {
		return 0, err
	}
	far, err := l.Accept()
	if err != nil {
		return 0, errors.Join(err, near.Abort())
	}
	var arrived atomic.Int64
	var busy sync.WaitGroup
	if t.up {
		busy.Go(func() { pour(near) })
		busy.Go(func() { count(far, &arrived) })
	}
	if t.down {
		busy.Go(func() { pour(far) })
		busy.Go(func() { count(near, &arrived) })
	}
	speed, err = f.watch(ctx, &arrived)
	if failed := near.Err(); failed != nil {
		err = errors.Join(err, failed)
	}
	err = errors.Join(err, near.Abort(), far.Close())
	busy.Wait()
	<-near.Done()
	return speed, err
}

// watch counts bytes in a window of time.
func (f *threadsFlags) watch(ctx context.Context, arrived *atomic.Int64) (float64, error) {
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	window := f.window / turns
	if err := pause(window / 5); err != nil {
		return 0, err
	}
	began, before := time.Now(), arrived.Load()
	if err := pause(window); err != nil {
		return 0, err
	}
	bytes := arrived.Load() - before
	if bytes == 0 {
		return 0, errors.New("no byte arrived")
	}
	return float64(bytes) / 1e6 / time.Since(began).Seconds(), nil
}

// pour writes until that fails, which is how a measurement ends.
func pour(w io.Writer) {
	chunk := make([]byte, 256<<10)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// count reads until that fails.
func count(r io.Reader, arrived *atomic.Int64) {
	buffer := make([]byte, 256<<10)
	for {
		n, err := r.Read(buffer)
		arrived.Add(int64(n))
		if err != nil {
			return
		}
	}
}
