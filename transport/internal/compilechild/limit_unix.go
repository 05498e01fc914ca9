//go:build linux || darwin

package compilechild

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// limit bounds what this process may take.
func limit(memory uint64) error {
	errs := []error{
		unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: Seconds, Max: Seconds}),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	}
	if !raceDetector { // which maps far more than it uses
		errs = append(errs, unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: memory, Max: memory}))
	}
	return errors.Join(errs...)
}

// killed tells whether a signal has ended a child, as that of a limit does.
func killed(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}
