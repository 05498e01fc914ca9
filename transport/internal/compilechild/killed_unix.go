//go:build linux || darwin

package compilechild

import (
	"os/exec"
	"syscall"
)

// killed tells whether a signal has ended a child, as that of a limit does.
func killed(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}
