// Package self has tests of the program's own process: the test binary is the program.
package self

import (
	"fmt"
	"os"
	"testing"

	"waterproxy/internal/command"
	"waterproxy/internal/pttest"
)

// stateDir is shared by the processes of all tests, so that each module is
// compiled once.
var stateDir string

func TestMain(m *testing.M) {
	pttest.BeProgram(command.Main)
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	stateDir = dir + "/pt_state"
	status := pttest.Run(m)
	os.RemoveAll(dir)
	os.Exit(status)
}
