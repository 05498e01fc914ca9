package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/reload"
)

// standalone is what `waterproxy client` and `waterproxy server` have in common:
// the machinery of the managed proxy, without tor.
type standalone struct {
	catalog catalog.Catalog
	logging ptlog.Flags
	metrics string
	watch   bool
	log     *slog.Logger
	meter   *meter.Meter
	loaded  *reload.Set
}

// flags adds those of both. state is the default of the state directory.
func (s *standalone) flags(fs *flag.FlagSet) {
	s.catalog.Flags(fs)
	fs.StringVar(&s.catalog.StateDir, "state", defaultState(), "keep compiled modules, and what modules keep themselves, in `DIR`")
	fs.StringVar(&s.metrics, "metrics", "", "serve Prometheus metrics at `ADDRESS`: unix:PATH or a loopback HOST:PORT")
	fs.BoolVar(&s.watch, "watch", false, "look for changes of modules and their settings, and load them")
	s.logging.Register(fs, "stderr")
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

// run starts a transport and carries connections until ctx ends. start says what is
// to be closed then.
func (s *standalone) run(ctx context.Context, start func() (listener, error)) error {
	if err := errors.Join(s.logging.Check(), s.catalog.Check()); err != nil {
		return err
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
	hangUp := notifyHangUp()
	l, err := start()
	if err != nil {
		return err
	}
	keepLoaded(ctx, s.loaded, s.watch, hangUp)
	<-ctx.Done()
	return s.drain(l)
}

// drainLimit bounds the wait for connections to end.
const drainLimit = 30 * time.Second

// drain stops accepting and waits for the connections that are up, for drainLimit at
// most and not after another signal.
func (s *standalone) drain(l listener) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	if err := l.Close(); err != nil {
		s.log.Warn("cannot stop listening", "error", err)
	}
	ended := make(chan struct{})
	go func() {
		l.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	default:
	}
	s.log.Info("no new connections; waiting for those that are up. A second signal ends them")
	select {
	case <-ended:
	case <-again:
	case <-time.After(drainLimit):
		s.log.Warn("some connections have not ended in time", "limit", drainLimit)
	}
	return nil
}
