package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
)

// The files in the state directory for what Go's runtime says at a crash: tor would
// show no more than "terminated with status code 2".
const (
	crashFile     = "crash.txt"
	lastCrashFile = "crash-last.txt"
)

// reportCrash says in the log why the process before this one crashed, if it did, and
// sees to it that the same can be said of this one. tor starts a process that ended
// again, so that is when its operator learns it.
func reportCrash(dir string, log *slog.Logger) error {
	f, err := os.OpenFile(filepath.Join(dir, crashFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	// The runtime keeps a copy of the descriptor.
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if len(text) > 0 {
		last := filepath.Join(dir, lastCrashFile)
		first, _, _ := bytes.Cut(text, []byte("\n"))
		log.Error("waterproxy crashed before this start", "message", string(first), "details", last)
		if err := errors.Join(os.WriteFile(last, text, 0o600), f.Truncate(0)); err != nil {
			return err
		}
	}
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
