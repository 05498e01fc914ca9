package service

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"

	"waterproxy/internal/statedir"
)

// The files in the state directory for what Go's runtime prints at a crash: tor would
// show no more than "terminated with status code 2".
const (
	crashFile     = "crash.txt"
	lastCrashFile = "crash-last.txt"
)

// maxCrash is how many bytes of a crash are kept.
const maxCrash = 1 << 20

// maxCrashLine is how many bytes of a crash go into the log; the rest is in the file.
const maxCrashLine = 1 << 10

// reportCrash logs why the process before this one crashed, if it did, and has Go's
// runtime write the same about this one. tor starts a process that ended again, so that
// is when its operator learns it.
func (s *Service) reportCrash() {
	dir := s.Catalog.CacheDir()
	if dir == "" {
		return
	}
	if err := reportCrash(dir, s.Log); err != nil {
		s.Log.Warn("a crash would not be reported", "error", err)
	}
}

// reportCrash does that with the files in a private directory.
func reportCrash(dir string, log *slog.Logger) error {
	f, err := openCrash(filepath.Join(dir, crashFile))
	if err != nil {
		return err
	}
	// The runtime keeps a copy of the descriptor.
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCrash))
	if err != nil {
		return err
	}
	if len(text) > 0 {
		last := filepath.Join(dir, lastCrashFile)
		first, _, _ := bytes.Cut(text, []byte("\n"))
		first = first[:min(len(first), maxCrashLine)]
		log.Error("waterproxy crashed before this start", "message", string(first), "details", last)
		if err := errors.Join(statedir.WriteFile(last, text), f.Truncate(0)); err != nil {
			return err
		}
	}
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}

// openCrash opens the file for a crash, in the place of whatever is there and is no
// such file.
func openCrash(name string) (*os.File, error) {
	f, err := statedir.OpenAppend(name)
	if err == nil {
		return f, nil
	}
	if err := os.Remove(name); err != nil {
		return nil, err
	}
	return statedir.OpenAppend(name)
}
