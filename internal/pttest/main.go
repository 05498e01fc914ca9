// Package pttest is for tests in which pluggable transports run as tor runs them. It is
// part of no program.
package pttest

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waterproxy/internal/program"
)

// Patience is how long to wait for what must happen. Compiling a module takes more than
// a minute with the race detector on a machine with other work.
const Patience = 4 * time.Minute

// Count returns how often a test does what it repeats: less often under the race detector,
// which makes each many times as slow and sees a race that one in some hundred has. make
// counts runs the tests that ask for this without it.
func Count(all, race int) int {
	if Race {
		return race
	}
	return all
}

// ProgramVariable makes a test binary be the program; see BeProgram.
const ProgramVariable = "WATERPROXY_TEST_IS_PROGRAM"

// BeProgram makes a test binary the program that it tests, if ProgramVariable is set, or if
// the program has started it for a part of its own work, or as tor does: then it calls its main
// function and does not return. TestMain calls it first.
func BeProgram(run func(args []string) int) {
	_, byTor := os.LookupEnv("TOR_PT_MANAGED_TRANSPORT_VER")
	part := byTor || slices.ContainsFunc(os.Args[1:], func(arg string) bool { return arg == program.CompileModule || arg == program.LookAtRepository })
	if os.Getenv(ProgramVariable) == "" && !part {
		return
	}
	if err := os.Unsetenv(ProgramVariable); err != nil {
		panic(err)
	}
	os.Exit(run(os.Args[1:]))
}

// Run runs the tests of a package and fails if goroutines are left; see Leaks. It returns
// the exit status.
func Run(m *testing.M) int {
	status := m.Run()
	if status != 0 {
		return status
	}
	if err := Leaks(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

// leakPatience is for connections that the last tests have left to drain, which they may do
// for 30 seconds. Find has pauses of its own.
const leakPatience = 2 * time.Minute

// Leaks returns an error if goroutines are left, except the two that a process has once,
// one for sockets that no instance waits for, and one that starts all processes, and those
// that package watm keeps for later work.
func Leaks() error {
	for began := time.Now(); ; {
		err := goleak.Find(
			goleak.IgnoreAnyFunction("waterproxy/transport/internal/stream.(*Poller).run"),
			goleak.IgnoreAnyFunction("waterproxy/internal/ptproc.spawn"),
			goleak.IgnoreTopFunction("waterproxy/watm.work"),
		)
		switch {
		case err == nil:
			return nil
		case time.Since(began) > leakPatience:
			return fmt.Errorf("goroutines are left after the tests: %w", err)
		}
	}
}
