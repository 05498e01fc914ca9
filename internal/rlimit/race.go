//go:build race

package rlimit

// RaceDetector is whether the race detector is built in.
const RaceDetector = true
