// Command waterproxy carries Tor connections through WebAssembly transport
// modules. Started by tor it is a managed proxy (pluggable transport
// specification version 1), client or server; started by hand it has
// subcommands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/ptlog"
)

// Exit statuses.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells report it
)

func main() {
	if startedByTor() {
		exit(runManaged(os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(runCommand(ctx, os.Args[1:]))
}

// exit ends the process. What it has reported last is written before, unless the
// output takes nothing.
func exit(status int) {
	ptlog.Flush()
	os.Exit(status)
}

// startedByTor reports whether any of the variables is set by which tor tells a
// managed proxy what to do (pt-spec 3.2).
func startedByTor() bool {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "TOR_PT_") {
			return true
		}
	}
	return false
}

// runCommand runs a subcommand and returns the exit status.
func runCommand(ctx context.Context, args []string) int {
	root := &ffcli.Command{
		Name:       "waterproxy",
		ShortUsage: "waterproxy <subcommand> [flags]",
		ShortHelp:  "Tor pluggable transports that are WebAssembly modules",
		FlagSet:    newFlagSet("waterproxy"),
		Subcommands: []*ffcli.Command{
			clientCommand(), serverCommand(), statusCommand(), checkCommand(), inspectCommand(), demoCommand(), versionCommand(),
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
	if err := root.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage // the flag package has said what is wrong
	}
	err := root.Run(ctx)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(ptlog.Stderr(), "waterproxy: interrupted; everything that was started is gone")
		return exitInterrupted
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errTold):
		return exitFailure
	}
	fmt.Fprintln(ptlog.Stderr(), "waterproxy:", err)
	return exitFailure
}

// errUsage means that the command line was wrong and the user has been told.
var errUsage = errors.New("usage")

// errTold means that a subcommand has printed by itself what is wrong.
var errTold = errors.New("told")

// errInterrupted means that a signal ended a subcommand.
var errInterrupted = errors.New("interrupted")

func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	return fs
}
