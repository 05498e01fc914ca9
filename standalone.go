package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/reload"
)

// standalone is what `waterproxy client` and `waterproxy server` have in common: a
// service without tor.
type standalone struct{ service }

// flags adds those of both.
func (s *standalone) flags(fs *flag.FlagSet) {
	s.service.flags(fs, "stderr")
	fs.StringVar(&s.catalog.StateDir, "state", defaultState(), "keep compiled modules, and what modules keep themselves, in `DIR`")
}

// defaultState returns where state is kept if nothing is said: where systemd says,
// or where the XDG specification puts a user's. "" if there is no such place.
func defaultState() string {
	// It may be a list (systemd.exec); the first is ours.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "waterproxy")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	// A system user's home is a name of which there is to be no directory.
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return ""
	}
	return filepath.Join(home, ".local", "state", "waterproxy")
}

// useState makes the state directory, and opens the log, which may be in it. What is
// wrong with it costs the transports that need it.
func (s *standalone) useState() {
	s.catalog.StateFlag = "-state DIR"
	s.catalog.MakeState()
	var err error
	if s.log, err = s.logging.Open(s.catalog.StateDir); err != nil {
		s.log.Warn("the log goes to standard error", "error", err)
	}
	s.catalog.Log = s.log
	s.warn(s.catalog.CheckDir())
	if s.catalog.StateDir == "" {
		s.log.Warn("nothing is kept between starts, neither compiled modules, without which a start takes about a second longer, nor keys: "+
			"there is no home directory for it", "remedy", "name a directory by -state DIR")
	}
}

// run starts a transport and carries connections until the end.
func (s *standalone) run(ctx context.Context, start func(context.Context) (listener, error)) error {
	ptlog.QueueOutput()
	err := errors.Join(append(s.catalog.CheckFlags(), s.check())...)
	if err == nil && s.metrics != "" {
		err = meter.CheckAddress(s.metrics)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "waterproxy:", err)
		return errUsage
	}
	s.useState()
	s.meter = meter.New()
	if s.metrics != "" {
		stop, err := s.meter.Serve(s.metrics, s.log)
		if err != nil {
			return err
		}
		defer stop()
	}
	s.loaded = reload.New(&s.catalog, s.log)
	end, stop := watchEnd(context.WithoutCancel(ctx), s.log) // it sees the signals itself
	defer stop()
	return s.service.run(end, func(ctx context.Context) error {
		l, err := start(ctx)
		if err == nil {
			s.running = append(s.running, l)
		}
		return err
	})
}
