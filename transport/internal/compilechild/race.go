//go:build race

package compilechild

const raceDetector = true
