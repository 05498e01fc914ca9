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
	errs := []error{lower(unix.RLIMIT_CPU, Seconds), lower(unix.RLIMIT_CORE, 0)}
	if !raceDetector { // which maps far more than it uses
		errs = append(errs, lower(unix.RLIMIT_DATA, memory))
	}
	return errors.Join(errs...)
}

// lower sets a limit, unless there is a lower one, which must not be raised.
func lower(resource int, to uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	to = min(to, now.Max)
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: to, Max: to})
}

// killed tells whether a signal has ended a child, as that of a limit does.
func killed(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}
