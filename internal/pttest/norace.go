//go:build !race

package pttest

// Race tells whether the race detector watches.
const Race = false
