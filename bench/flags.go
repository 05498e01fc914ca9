package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"waterproxy/internal/measure"
)

// reportFlags are the flags that every comparison has.
type reportFlags struct {
	baseline string
	runs     int
	quick    bool
	jsonFile string
	verbose  bool
	title    string

	idle      string
	idleWatch time.Duration
}

func (f *reportFlags) register(flags *flag.FlagSet, o measure.Options) {
	flags.StringVar(&f.baseline, "baseline", "", "contestant that ratios are taken to (default relay, or the first)")
	flags.IntVar(&f.runs, "runs", 5, "rounds of the tests that are repeated")
	flags.BoolVar(&f.quick, "quick", false, "smoke check: small sizes and 2 rounds, where no other flag sets another")
	flags.StringVar(&f.jsonFile, "json", "", "write raw samples to this file, too")
	flags.BoolVar(&f.verbose, "v", false, "show what the processes write")
	flags.StringVar(&f.title, "title", "", "title of the report")
	flags.StringVar(&f.idle, "idle", joinInts(o.Idle), "numbers of idle connections, ascending")
	flags.DurationVar(&f.idleWatch, "idle-time", o.IdleWatch, "how long idle connections are watched")
}

// options turns the flags into sizes. With -quick, only those flags count that
// were given, which is what the result's function tells.
func (f *reportFlags) options(flags *flag.FlagSet) (o measure.Options, given func(string) bool, err error) {
	o = measure.DefaultOptions() // for what has no flag
	given = func(string) bool { return true }
	if f.quick {
		o = measure.QuickOptions()
		set := make(map[string]bool)
		flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
		given = func(name string) bool { return set[name] }
		if !given("runs") {
			f.runs = 2
		}
	}
	if given("idle-time") {
		o.IdleWatch = f.idleWatch
	}
	if given("idle") {
		o.Idle = nil
		for _, word := range splitList(f.idle) {
			n, err := strconv.Atoi(word)
			if err != nil {
				return o, nil, fmt.Errorf("-idle: %w", err)
			}
			o.Idle = append(o.Idle, n)
		}
	}
	if f.runs < 1 {
		return o, nil, errors.New("-runs must be positive")
	}
	return o, given, o.Validate()
}

// pickBaseline returns the contestant that ratios are taken to.
func (f *reportFlags) pickBaseline(names []string) (string, error) {
	switch {
	case f.baseline != "" && !slices.Contains(names, f.baseline):
		return "", fmt.Errorf("-baseline %s is not among the contestants", f.baseline)
	case f.baseline != "":
		return f.baseline, nil
	case slices.Contains(names, "relay"):
		return "relay", nil
	}
	return names[0], nil
}

// pickLibraryBaseline is pickBaseline where the floor is a contestant that all
// others are far from.
func (f *reportFlags) pickLibraryBaseline(names []string) (string, error) {
	if f.baseline == "" && len(names) > 1 && names[0] == floorName {
		return names[1], nil
	}
	return f.pickBaseline(names)
}

// sizeFlags are the flags of the comparisons that run the suite.
type sizeFlags struct {
	reportFlags
	tests string
	skip  string

	size, parallel, setups, pings, slow, stall int
	limit                                      time.Duration
}

func (f *sizeFlags) register(flags *flag.FlagSet, o measure.Options) {
	f.reportFlags.register(flags, o)
	flags.StringVar(&f.tests, "tests", "", "tests to run, separated by commas (default all)")
	flags.StringVar(&f.skip, "skip", "", "tests to leave out")
	flags.IntVar(&f.size, "size", int(o.Size>>20), "most MiB per bulk transfer")
	flags.DurationVar(&f.limit, "limit", o.Limit, "longest time of sending per bulk transfer, and of a round of set-ups")
	flags.IntVar(&f.parallel, "parallel", o.Parallel, "connections of upN and downN")
	flags.IntVar(&f.setups, "setups", o.Setups, "most connections of a round of set-ups")
	flags.IntVar(&f.pings, "pings", o.Pings, "round trips of the ping test")
	flags.IntVar(&f.slow, "slow", o.Slow.Size>>20, "MiB sent to the slow reader")
	flags.IntVar(&f.stall, "stall", o.Stall.Conns, "connections beside the stalled one")
}

// usage has the help list the tests after the flags.
func usage(flags *flag.FlagSet, tests []measure.Test) func() {
	return func() {
		w := flags.Output()
		fmt.Fprintf(w, "Usage: %s [flags]\n\nFlags:\n", flags.Name())
		flags.PrintDefaults()
		fmt.Fprintln(w, "\nTests:")
		for _, t := range tests {
			fmt.Fprintf(w, "  %-10s %s\n", t.Name, t.About)
		}
	}
}

// options turns the flags into sizes.
func (f *sizeFlags) options(flags *flag.FlagSet) (measure.Options, error) {
	o, given, err := f.reportFlags.options(flags)
	if err != nil {
		return o, err
	}
	for name, apply := range map[string]func(){
		"size":     func() { o.Size = int64(f.size) << 20 },
		"limit":    func() { o.Limit = f.limit },
		"parallel": func() { o.Parallel = f.parallel },
		"setups":   func() { o.Setups = f.setups },
		"pings":    func() { o.Pings = f.pings },
		"slow":     func() { o.Slow.Size = f.slow << 20 },
		"stall":    func() { o.Stall.Conns = f.stall },
	} {
		if given(name) {
			apply()
		}
	}
	return o, o.Validate()
}

// pick returns the tests that -tests and -skip select, and whether the start-up
// test, which is not in the suite, is among them.
func (f *sizeFlags) pick(suite []measure.Test, hasStartup bool) (tests []measure.Test, startup bool, err error) {
	known := map[string]bool{startupTest: hasStartup}
	for _, t := range suite {
		known[t.Name] = true
	}
	only, skip := splitList(f.tests), splitList(f.skip)
	for _, name := range slices.Concat(only, skip) {
		if !known[name] {
			return nil, false, fmt.Errorf("no test is called %q", name)
		}
	}
	wanted := func(name string) bool {
		return (len(only) == 0 || slices.Contains(only, name)) && !slices.Contains(skip, name)
	}
	for _, t := range suite {
		if wanted(t.Name) {
			tests = append(tests, t)
		}
	}
	startup = hasStartup && wanted(startupTest)
	if len(tests) == 0 && !startup {
		return nil, false, errors.New("no test is left to run")
	}
	return tests, startup, nil
}

func flagError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usageError{err}
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' })
}

func joinInts(values []int) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = strconv.Itoa(v)
	}
	return strings.Join(words, ",")
}
