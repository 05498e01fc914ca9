// Package oneside is the body of the helper programs that measure a WATM runtime
// library from inside the process that uses it: the library's dialer is the near
// end of every connection, and the far end is plain TCP, so only the one side is
// in the figures.
//
// Each library has a helper of its own, because two versions of one dependency
// cannot be linked into one executable. A helper makes one round of one test and
// exits; what a failure leaves behind, or a crash, then touches no other figure.
//
// Only a module that changes no bytes can be measured so: the far end is not
// behind a module that would change them back.
package oneside

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"waterproxy/internal/measure"
)

// Dialer opens connections through a module.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Setting is what a library is used with.
type Setting struct {
	Wasm []byte // the module
	// Cache is a directory for compiled code. It is also the process's directory
	// for temporary files, for libraries that choose a place there themselves.
	Cache   string
	Variant string // which of the library's ways to dial; empty for the usual one
}

// Opener makes a library ready to dial through a module: whatever can be done
// once for all connections belongs there. It lasts as long as the process.
type Opener func(ctx context.Context, s Setting) (Dialer, error)

// Request is what a helper is asked to do, given as JSON in its only argument.
type Request struct {
	Module  string          `json:"module,omitempty"` // file; empty for plain TCP
	Cache   string          `json:"cache"`            // directory
	Variant string          `json:"variant,omitempty"`
	Test    string          `json:"test"`
	Round   int             `json:"round"`
	Options measure.Options `json:"options"`
	Timeout time.Duration   `json:"timeout_ns"`
	Result  string          `json:"result"` // file to write
}

// Result is what a helper answers, as JSON in the file that it is to write.
// Its standard output is not used: a module may write there.
type Result struct {
	Sample measure.Sample `json:"sample"`
	Error  string         `json:"error,omitempty"`
}

// CompileTest is the name of the test that times making a module ready and the
// first and the second dial after that. It is to be run twice, the first time
// with an empty cache; its samples are then to be merged by MergeCompile.
const CompileTest = "compile"

// Keys of the samples of the compile test.
const (
	keyReady     = "ready" // of one run; the others are of the merged sample
	keyReadyCold = "ready_cold"
	keyReadyWarm = "ready_warm"
	keyFirst     = "dial_first"
	keySecond    = "dial_second"
)

// MergeCompile makes one sample of those of two runs of the compile test.
func MergeCompile(cold, warm measure.Sample) measure.Sample {
	return measure.Sample{
		keyReadyCold: cold[keyReady], keyReadyWarm: warm[keyReady],
		keyFirst: warm[keyFirst], keySecond: warm[keySecond],
	}
}

// Suite is the tests that a helper knows.
func Suite(o measure.Options) []measure.Test {
	o.OneSided = true
	compile := measure.Test{
		Name:  CompileTest,
		About: "from the bytes of the module to the first and second connection, in a fresh process",
		Metrics: []measure.Metric{
			{Key: keyReadyCold, Label: "module made ready, empty cache", Unit: "ms", Better: measure.Lower},
			{Key: keyReadyWarm, Label: "module made ready, from the cache", Unit: "ms", Better: measure.Lower},
			{Key: keyFirst, Label: "first connection after that", Unit: "ms", Better: measure.Lower},
			{Key: keySecond, Label: "second connection", Unit: "ms", Better: measure.Lower},
		},
	}
	return append([]measure.Test{compile}, measure.Suite(o)...)
}

// Main runs the request in the program's argument with the given library and
// returns the exit status: 0 if a result was written, even one of a failure.
func Main(open Opener) int {
	flag.Parse()
	if err := serve(open, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serve(open Opener, args []string) error {
	if len(args) != 1 {
		return errors.New("one argument, a request in JSON, is expected; the bench command gives it")
	}
	var q Request
	if err := json.Unmarshal([]byte(args[0]), &q); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	var result Result
	sample, err := q.run(context.Background(), open)
	result.Sample = sample
	if err != nil {
		result.Error = err.Error()
	}
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(q.Result, b, 0o600)
}

// run makes the one round.
func (q *Request) run(ctx context.Context, open Opener) (sample measure.Sample, err error) {
	setting := Setting{Cache: q.Cache, Variant: q.Variant}
	if q.Module == "" {
		open = Direct
	} else if setting.Wasm, err = os.ReadFile(q.Module); err != nil {
		return nil, err
	}
	origin, err := measure.NewOrigin()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, origin.Close()) }()
	begin := time.Now()
	dial, err := open(ctx, setting)
	if err != nil {
		return nil, fmt.Errorf("make the module ready: %w", err)
	}
	opened := time.Since(begin)
	path := &measure.Path{
		Dial:    func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", origin.Addr()) },
		Origin:  origin,
		Client:  measure.Self(),
		Timeout: q.Timeout,
	}
	if q.Test == CompileTest {
		return compile(ctx, path, opened)
	}
	if err := warmUp(ctx, path); err != nil {
		return nil, err
	}
	for _, t := range Suite(q.Options) {
		if t.Name == q.Test {
			return t.Run(ctx, path, q.Round)
		}
	}
	return nil, fmt.Errorf("no test is called %q", q.Test)
}

// warmUp makes one connection, so that what a library does only the first time is
// in none of the figures but those of the compile test.
func warmUp(ctx context.Context, p *measure.Path) error {
	l, err := p.Open(ctx)
	if err != nil {
		return fmt.Errorf("first connection: %w", err)
	}
	return l.CloseNear(ctx)
}

func compile(ctx context.Context, p *measure.Path, opened time.Duration) (measure.Sample, error) {
	out := measure.Sample{keyReady: milliseconds(opened)}
	for _, key := range []string{keyFirst, keySecond} {
		l, err := p.Open(ctx)
		if err != nil {
			return out, err
		}
		out[key] = milliseconds(l.Setup)
		if err := l.CloseNear(ctx); err != nil {
			return out, err
		}
	}
	return out, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// Direct is the Opener without a library: plain TCP from the same process, the
// floor for the others.
func Direct(context.Context, Setting) (Dialer, error) {
	var d net.Dialer
	return d.DialContext, nil
}
