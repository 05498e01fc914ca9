//go:build race

package program

// partEnvironment ends a process at once: by default one that the race detector watches
// lives on for a second.
var partEnvironment = []string{"GORACE=atexit_sleep_ms=0"}
