package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes puts a child into a process group of its own: an interrupt at
// the terminal is for the harness, which then ends its children in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// raiseFileLimit lets a child open as many files as the system lets this process
// have. Tor does the same for itself, and its children inherit it; Go's own
// raised limit, in contrast, is taken back before a child starts.
func raiseFileLimit(pid int) error {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return fmt.Errorf("file limit: %w", err)
	}
	own.Cur = own.Max
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &own, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended already
		return fmt.Errorf("file limit of process %d: %w", pid, err)
	}
	return nil
}
