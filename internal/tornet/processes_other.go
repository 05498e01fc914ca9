//go:build !linux

package tornet

import (
	"errors"
	"fmt"
	"runtime"
)

// Alive reports whether the process still runs.
func (p Process) Alive() bool { return false }

// childProcesses needs Linux's /proc.
func childProcesses(int) ([]Process, error) {
	return nil, fmt.Errorf("finding child processes on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// processesWith finds nothing without Linux's /proc: there a transport's end is
// in tor's hands alone.
func processesWith(string, func(string) bool) ([]Process, error) { return nil, nil }
