package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"waterproxy/internal/meter"
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
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "waterproxy")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "waterproxy")
}

// run starts a transport and carries connections until the end.
func (s *standalone) run(ctx context.Context, start func(context.Context) (listener, error)) error {
	if err := s.check(); err != nil {
		fmt.Fprintln(os.Stderr, "waterproxy:", err)
		return errUsage
	}
	if s.catalog.StateDir != "" {
		if err := os.MkdirAll(s.catalog.StateDir, 0o700); err != nil {
			return fmt.Errorf("make the state directory: %w", err)
		}
	}
	var err error
	if s.log, err = s.logging.Open(s.catalog.StateDir); err != nil {
		return err
	}
	s.meter = meter.New()
	if s.metrics != "" {
		stop, err := s.meter.Serve(s.metrics)
		if err != nil {
			return err
		}
		defer func() { _ = stop() }() // the process is about to end
	}
	s.loaded = reload.New(&s.catalog, s.log)
	end, stop := watchEnd(ctx, s.log)
	defer stop()
	return s.service.run(end, func(ctx context.Context) error {
		l, err := start(ctx)
		if err == nil {
			s.running = append(s.running, l)
		}
		return err
	})
}
