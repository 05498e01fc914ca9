package main

import (
	"fmt"
	"os"
	"testing"
)

// childMarker makes the test binary be the program.
const childMarker = "WATERPROXY_TEST_IS_PROGRAM"

// stateDir is shared by the processes of all tests, so that each module is
// compiled once.
var stateDir string

func TestMain(m *testing.M) {
	if os.Getenv(childMarker) != "" {
		if err := os.Unsetenv(childMarker); err != nil {
			panic(err)
		}
		main()
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "waterproxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	stateDir = dir + "/pt_state"
	return m.Run()
}
