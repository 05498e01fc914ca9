//go:build linux || darwin

// Package rlimit bounds what a process that does one thing may take.
package rlimit

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Set bounds this process: seconds of processor time, and bytes of memory that it may write
// to. It leaves no core file.
func Set(seconds, memory uint64) error {
	errs := []error{lower(unix.RLIMIT_CPU, seconds), lower(unix.RLIMIT_CORE, 0)}
	if !RaceDetector { // which maps far more than it uses
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
