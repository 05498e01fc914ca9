// Package command is the command line of the executable: it starts the managed proxy
// if tor started the process, and otherwise the subcommand that the user named.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/managed"
	"waterproxy/internal/program"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/updater"
	"waterproxy/transport"
)

// Main is the program, without its name among args. It returns the exit status.
// What it has reported last has been written by then, unless the output takes nothing.
func Main(args []string) int {
	if len(args) > 0 && args[0] == program.CompileModule {
		return transport.RunCompiler(args[1:])
	}
	if len(args) == 1 && args[0] == program.LookAtRepository {
		return updater.Main(os.Stdin, os.Stdout, os.Stderr)
	}
	program.Compiler, program.Updater = program.Own(program.CompileModule), program.Own(program.LookAtRepository)
	defer ptlog.Flush()
	if managed.StartedByTor() {
		return managed.Main(args)
	}
	return run(args)
}

// run runs a subcommand and returns the exit status.
func run(args []string) int {
	root := &ffcli.Command{
		Name:       "waterproxy",
		ShortUsage: "waterproxy <subcommand> [flags]",
		ShortHelp:  "Tor pluggable transports that are WebAssembly modules",
		FlagSet:    newFlagSet("waterproxy"),
		Subcommands: []*ffcli.Command{
			clientCommand(), serverCommand(), statusCommand(), checkCommand(), inspectCommand(),
			examineCommand(), modulesCommand(), publishCommand(), demoCommand(), versionCommand(),
		},
		LongHelp: "Started by tor it is a managed proxy and takes other flags: see docs/torrc.md.",
		Exec: func(_ context.Context, args []string) error {
			if len(args) > 0 {
				fmt.Fprintf(os.Stderr, "waterproxy has no subcommand %q; `waterproxy -h` lists them.\n", args[0])
				return errUsage
			}
			fmt.Fprintln(os.Stderr, "waterproxy carries Tor connections through WebAssembly transport modules; tor starts it as a ClientTransportPlugin or ServerTransportPlugin.")
			fmt.Fprintln(os.Stderr, "To see it work, run `waterproxy demo`; for everything else, `waterproxy -h`.")
			return errUsage
		},
	}
	for _, command := range forTests {
		root.Subcommands = append(root.Subcommands, command())
	}
	if err := root.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return program.ExitUsage // the flag package has reported it
	}
	err := root.Run(context.Background())
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(ptlog.Stderr(), "waterproxy: interrupted; everything that was started is gone")
		return program.ExitInterrupted
	case errors.Is(err, errUsage):
		return program.ExitUsage
	case errors.Is(err, errReported):
		return program.ExitFailure
	}
	fmt.Fprintln(ptlog.Stderr(), "waterproxy:", ptlog.Shown(err.Error()))
	return program.ExitFailure
}

// forTests are subcommands that only builds for tests have.
var forTests []func() *ffcli.Command

var (
	// errUsage means that the command line is wrong. The error has been printed.
	errUsage = errors.New("usage")
	// errReported means that the subcommand has already printed its error; only the
	// exit status is left to set.
	errReported = errors.New("reported")
	// errInterrupted means that a signal ended a subcommand.
	errInterrupted = errors.New("interrupted")
)

// exec is what a subcommand does with its arguments.
type exec = func(ctx context.Context, args []string) error

// interruptible makes SIGINT and SIGTERM end the context of a subcommand. Those that
// serve do not need it: they end at signals as a [service.Service] does.
func interruptible(do exec) exec {
	return func(ctx context.Context, args []string) error {
		ctx, stop := service.Interruptible(ctx)
		defer stop()
		return do(ctx, args)
	}
}

func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	return fs
}
