//go:build !linux

package ptproc

import "os/exec"

// StartTied starts cmd. Without Linux's Pdeathsig it is tor's own
// __OwningControllerProcess that ends it when this process dies without a
// Close.
func StartTied(cmd *exec.Cmd) error { return cmd.Start() }
