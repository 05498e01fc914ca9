package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/catalog"
	"waterproxy/internal/display"
	"waterproxy/internal/examine"
	"waterproxy/internal/userfile"
)

// examineFlags are those of `waterproxy examine`.
type examineFlags struct {
	options examine.Options
	catalog catalog.Catalog
	passed  []string // flags for modules, which both sides are started with

	client, server string
	json           bool
	html           string
	failOn         string
	noProbes       bool
	noCost         bool
}

func examineCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy examine")
	x := &examineFlags{}
	x.register(fs)
	return &ffcli.Command{
		Name:       "examine",
		ShortUsage: "waterproxy examine [flags] NAME|FILE.wasm\n  waterproxy examine [flags] -client COMMAND -server COMMAND -transport NAME",
		ShortHelp:  "run both sides of a transport and report what a censor sees of it",
		LongHelp: "NAME is a transport, built in or given with -module or -modules; FILE.wasm is a module.\n" +
			"The commands are those of any programs that tor could start. See docs/examine.md.",
		FlagSet: fs,
		Exec: interruptible(func(ctx context.Context, args []string) error {
			if len(args) > 1 { // flags may follow the name
				if err := fs.Parse(args[1:]); err != nil {
					return errUsage
				}
				args = append(args[:1:1], fs.Args()...)
			}
			words, err := x.check(args)
			if err != nil {
				fmt.Fprintln(os.Stderr, "waterproxy examine:", err)
				return errUsage
			}
			if err := x.find(args); err != nil {
				return err
			}
			if x.needsWebServer() {
				remove, err := x.makeWebServer()
				if err != nil {
					return fmt.Errorf("a web server for %s: %w", webTransport, err)
				}
				return errors.Join(x.run(ctx, words), remove())
			}
			return x.run(ctx, words)
		}),
	}
}

func (x *examineFlags) register(fs *flag.FlagSet) {
	o := &x.options
	x.catalog.Flags(fs)
	fs.VisitAll(func(f *flag.Flag) { f.Value = &passedFlag{f.Value, f.Name, &x.passed} })
	fs.IntVar(&o.Connections, "n", examine.DefaultConnections, "record `N` connections")
	fs.IntVar(&o.AtOnce, "at-once", examine.DefaultAtOnce, "`N` of them at the same time")
	fs.IntVar(&o.Probes, "probes", examine.DefaultProbes, "probe the server `N` times with each kind")
	fs.DurationVar(&o.ProbeTime, "probe-time", examine.DefaultProbeTime, "wait so long for a server that does not close")
	fs.BoolVar(&x.noProbes, "no-probes", false, "do not probe the server")
	fs.BoolVar(&x.noCost, "no-cost", false, "measure neither speed nor memory, and try nothing that breaks connections")
	fs.IntVar(&o.Rounds, "rounds", examine.DefaultRounds, "measure speed `N` times, in turn with plain")
	fs.StringVar(&x.client, "client", "", "examine this `COMMAND` as the client, and that of -server")
	fs.StringVar(&x.server, "server", "", "examine this `COMMAND` as the server, and that of -client")
	fs.StringVar(&o.Pair.Transport, "transport", "", "the transport's `NAME`, with -client and -server")
	o.Pair.Args, o.Pair.Options = map[string][]string{}, map[string][]string{}
	pairs(fs, "arg", "give the client an argument of a bridge line, as `KEY=VALUE`; repeatable", o.Pair.Args)
	pairs(fs, "option", "give the server an option of ServerTransportOptions, as `KEY=VALUE`; repeatable", o.Pair.Options)
	fs.StringVar(&o.Recorder, "recorder", "127.0.0.1:0", "let the recorder listen at `ADDRESS`, for which {recorder} stands in arguments, options and commands")
	fs.StringVar(&o.Pair.Bind, "bind", "", "let the server listen at `ADDRESS`, as for a web server before it")
	fs.StringVar(&o.Pair.Front, "front", "", "record and probe at `ADDRESS`, where a web server before the server listens")
	fs.BoolVar(&x.json, "json", false, "print the report as JSON")
	fs.StringVar(&x.html, "html", "", "write the report as a page, with plots, to `FILE`")
	fs.StringVar(&x.failOn, "fail-on", "", "end with the status 1 if there is one of these, with commas between: `WORDS`, as blocked,probe-differs")
}

// pairs adds a repeatable flag for KEY=VALUE.
func pairs(fs *flag.FlagSet, name, usage string, into map[string][]string) {
	fs.Func(name, usage, func(arg string) error {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return errors.New("it is not of the form KEY=VALUE")
		}
		into[key] = append(into[key], value)
		return nil
	})
}

// passedFlag is a flag that both sides are started with as well.
type passedFlag struct {
	flag.Value
	name string
	into *[]string
}

// IsBoolFlag reports whether it takes no value (package flag).
func (p *passedFlag) IsBoolFlag() bool {
	b, ok := p.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// Set sets the flag. The sides run in folders of their own, so paths are made absolute.
func (p *passedFlag) Set(value string) (err error) {
	switch name, file, ok := strings.Cut(value, "="); {
	case p.name == "modules":
		value, err = filepath.Abs(value)
	case ok && (p.name == "module" || p.name == "module-config"):
		file, err = filepath.Abs(file)
		value = name + "=" + file
	}
	if err != nil {
		return err
	}
	*p.into = append(*p.into, "-"+p.name+"="+value)
	return p.Value.Set(value)
}

// String returns the flag's value. Package flag calls it for one that is not set up.
func (p *passedFlag) String() string {
	if p.Value == nil {
		return ""
	}
	return p.Value.String()
}

// check returns what is wrong with the command line, and the words of -fail-on.
func (x *examineFlags) check(args []string) ([]examine.Word, error) {
	o := &x.options
	commands := x.client != "" || x.server != ""
	for _, number := range []struct {
		flag  string
		value int
	}{{"n", o.Connections}, {"at-once", o.AtOnce}, {"probes", o.Probes}, {"rounds", o.Rounds}} {
		if number.value < 1 {
			return nil, fmt.Errorf("-%s: %d is none; it is 1 or more", number.flag, number.value)
		}
	}
	switch {
	case commands && (x.client == "" || x.server == "" || o.Pair.Transport == ""):
		return nil, errors.New("-client, -server and -transport go together")
	case commands && len(args) > 0:
		return nil, fmt.Errorf("%q is one thing to examine, and -client and -server are another", args[0])
	case !commands && o.Pair.Transport != "":
		return nil, errors.New("-transport is for -client and -server; a transport of this program is named by itself")
	case !commands && len(args) != 1:
		return nil, errors.New("it takes the name of one transport, or one module file")
	case o.ProbeTime <= 0 || o.ProbeTime > examine.MaxProbeTime:
		return nil, fmt.Errorf("-probe-time: %v is no time to wait; it is more than 0, and %v at most", o.ProbeTime, examine.MaxProbeTime)
	}
	words, err := examine.ParseWords(x.failOn)
	if err != nil {
		return nil, fmt.Errorf("-fail-on: %w", err)
	}
	return words, nil
}

// find fills the options with what is to be run.
func (x *examineFlags) find(args []string) error {
	o := &x.options
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot tell which program this is: %w", err)
	}
	o.Plain = &examine.Pair{Transport: "plain", Client: []string{program}, Server: []string{program}, CopiesState: true}
	if len(args) == 0 {
		o.Commands = true
		o.Pair.Client, o.Pair.Server = strings.Fields(x.client), strings.Fields(x.server)
		return nil
	}
	name := args[0]
	if base, ok := strings.CutSuffix(filepath.Base(name), ".wasm"); ok {
		file, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		name = transportName(base)
		if err := x.catalog.AddModule(name + "=" + file); err != nil {
			return err
		}
		x.passed = append(x.passed, "-module="+name+"="+file)
	}
	if _, err := x.catalog.Module(name); err != nil {
		return err
	}
	o.Pair.Transport = name
	// Some keep keys, and do not start without a place for them; here it is one that goes.
	if state := "-module-state=" + name; !slices.Contains(x.passed, state) {
		x.passed = append(x.passed, state)
	}
	command := append([]string{program}, x.passed...)
	o.Pair.Client, o.Pair.Server = command, command
	o.Pair.CopiesState = true
	o.Limited = x.limited
	return nil
}

// transportName makes a name that tor takes of a file's.
func transportName(base string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '_'
	}, base)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// limited writes the settings of the transport with other limits to a folder, and returns
// the flags with which a server has them.
func (x *examineFlags) limited(dir string, limits map[string]any) ([]string, error) {
	name := x.options.Pair.Transport
	settings := map[string]any{}
	var flags []string
	if from := x.catalog.Dir; from != "" {
		module := filepath.Join(from, name+".wasm")
		if _, err := os.Stat(module); err == nil {
			flags = append(flags, "-module="+name+"="+module)
		}
		text, err := userfile.Read(filepath.Join(from, name+".toml"), userfile.MaxSettings)
		if err == nil {
			err = toml.Unmarshal(text, &settings)
		} else if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return nil, err
		}
		if config, ok := settings["config"].(string); ok && !filepath.IsAbs(config) {
			settings["config"] = filepath.Join(from, config)
		}
	}
	all, _ := settings["limits"].(map[string]any)
	if all == nil {
		all = map[string]any{}
	}
	for key, value := range limits {
		all[key] = value
	}
	settings["limits"] = all
	text, err := toml.Marshal(settings)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return append(flags, "-modules="+dir), os.WriteFile(filepath.Join(dir, name+".toml"), text, 0o600)
}

// run examines, writes the report, and returns errReported if it has what is to fail.
func (x *examineFlags) run(ctx context.Context, words []examine.Word) (err error) {
	o := &x.options
	if x.noProbes {
		o.Probes = 0
	}
	o.Cost = !x.noCost
	show := display.New(os.Stderr, examine.Stages)
	o.Progress = show.Progress
	report, err := examine.Run(ctx, *o)
	show.Close()
	if err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("%s: %w", o.Pair.Transport, err)
	}
	write := report.WriteText
	if x.json {
		write = report.WriteJSON
	}
	if err := write(os.Stdout); err != nil {
		return err
	}
	if x.html != "" {
		if err := writePage(report, x.html); err != nil {
			return err
		}
	}
	failures := report.Failures(words)
	for _, f := range failures {
		fmt.Fprintf(os.Stderr, "waterproxy examine: %s: %s, %s: %s\n", f.FailsOn, f.Section, f.Name, strconv.Quote(f.Value))
	}
	if len(failures) > 0 {
		return errReported
	}
	return nil
}

func writePage(report *examine.Report, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return report.WriteHTML(f)
}
