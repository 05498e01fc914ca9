package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/reload"
)

// service is what the managed proxy and the standalone commands have in common:
// transports that are loaded again when they change, and connections that may end in
// their own time.
type service struct {
	catalog    catalog.Catalog
	logging    ptlog.Flags
	metrics    string
	watch      bool
	drainLimit time.Duration
	log        *slog.Logger
	meter      *meter.Meter
	loaded     *reload.Set
	running    []listener
}

// listener is what a transport's client and server side have in common.
type listener interface {
	Close() error
	Wait()
}

// flags adds the flags of all services. logTo is where the log goes by default.
func (s *service) flags(fs *flag.FlagSet, logTo string) {
	s.catalog.Flags(fs)
	fs.StringVar(&s.metrics, "metrics", "", "serve Prometheus metrics at `ADDRESS`: unix:PATH or a loopback HOST:PORT")
	fs.BoolVar(&s.watch, "watch", false, "look for changes of modules and their settings, and load them")
	fs.DurationVar(&s.drainLimit, "drain", 30*time.Second, "how long connections may go on after a signal")
	s.logging.Register(fs, logTo)
}

// check tells what is wrong with the flags, but for those of one transport.
func (s *service) check() error {
	if s.drainLimit < 0 {
		return fmt.Errorf("-drain: %v is no time to wait; it is 0 or more, as 30s", s.drainLimit)
	}
	return s.logging.Check()
}

// warn logs errors that keep back one transport at most.
func (s *service) warn(errs []error) {
	for _, err := range errs {
		s.log.Warn("something is wrong that costs no other transport", "error", err)
	}
}

// run starts transports and carries connections until the end. start adds what it
// starts to s.running.
func (s *service) run(end *ending, start func(context.Context) error) error {
	// Until there is something to load again SIGHUP means nothing, but must not end
	// the process.
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	started := make(chan error, 1)
	go func() { started <- start(end.asked) }()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case <-end.now.Done(): // compiling a module cannot be interrupted
		return nil
	}
	defer s.logging.Flush()
	s.keepLoaded(end.asked, hangUp)
	s.drain(end)
	return nil
}

// watchInterval is how often files are looked at for changes.
const watchInterval = time.Second

// keepLoaded loads modules again at a signal, and, if that is wanted, when their files
// change, until ctx ends.
func (s *service) keepLoaded(ctx context.Context, hangUp <-chan os.Signal) {
	if s.watch {
		go s.loaded.Watch(ctx, watchInterval)
	}
	for {
		select {
		case <-hangUp:
			s.loaded.Reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// drain stops listening and waits for the connections to end, until the limit, or
// until somebody wants the end now.
func (s *service) drain(end *ending) {
	for _, l := range s.running {
		if err := l.Close(); err != nil {
			s.log.Warn("cannot stop listening", "error", err)
		}
	}
	over := make(chan struct{})
	go func() {
		var all sync.WaitGroup
		for _, l := range s.running {
			all.Go(l.Wait)
		}
		all.Wait()
		close(over)
	}()
	limit := time.NewTimer(s.drainLimit)
	defer limit.Stop()
	select {
	case <-over:
	case <-end.now.Done():
	case <-limit.C:
		s.log.Info("ending with connections left", "limit", s.drainLimit)
	}
}
