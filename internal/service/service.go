// Package service is the life of a process that serves connections, whether tor started
// it or a user: state directory, log, crash report, metrics, signals, reload and drain.
package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/transports"
)

// Service is a process that serves connections.
type Service struct {
	// Catalog has what transports' names stand for. Its state directory has been made.
	Catalog *catalog.Catalog
	// Transports starts them, and loads them again when they change.
	Transports *transports.Set
	Log        *slog.Logger
	Meter      *meter.Meter

	options     *Options
	end         *ending
	hangUps     chan os.Signal
	stopMetrics func()
	news        *news // nil if there is no repository
	newsErr     error // why there is none, although the operator has named one
}

// Runner is a transport that serves connections.
type Runner interface {
	// Close stops it from taking new connections.
	Close() error
	// Wait returns when the last connection has ended.
	Wait()
}

// Open prepares what every serving process has, in the order that each part needs those
// before it. What cannot be had is logged as a warning, and costs the transports that
// need it. From then on signals do not end the process but the Service; the caller has
// to call Run, which frees everything.
func Open(o *Options) *Service {
	s := &Service{Catalog: &o.Catalog, Meter: meter.New(), options: o, stopMetrics: func() {}}
	s.Catalog.MakeState()
	s.Log = o.openLog()
	s.Catalog.Log = s.Log
	s.catchSignals()
	s.reportCrash()
	if o.metrics != "" {
		stop, err := s.Meter.Serve(o.metrics, s.Log)
		if err != nil { // users do without metrics, not without transports
			s.Log.Error("going on without metrics", "error", err)
		} else {
			s.stopMetrics = stop
		}
	}
	s.openNews()
	for _, err := range append(s.Catalog.CheckFlags(), s.Catalog.CheckDir()...) {
		s.Log.Warn("something is wrong that costs no other transport", "error", err)
	}
	s.Transports = transports.New(s.Catalog, s.Log, s.Meter)
	return s
}

// catchSignals keeps signals from ending the process. SIGHUP has no effect until the
// transports have started.
func (s *Service) catchSignals() {
	s.end = watchEnd(s.Log)
	s.hangUps = make(chan os.Signal, 1)
	signal.Notify(s.hangUps, syscall.SIGHUP)
}

// EndNow makes Run return without waiting for connections. why is for the log. It may be
// called at any time, more than once, and from any goroutine.
func (s *Service) EndNow(why string) { s.end.setNow(why) }

// Ended is done when Run is not to wait for connections any more, or has returned.
func (s *Service) Ended() context.Context { return s.end.now }

// Run starts transports and serves connections until a signal, or EndNow, asks for the
// end and the connections have ended, or until the operator's limit for that. The context
// of start ends when nothing new is to begin. The error is that of start; without one,
// start has returned what is to be closed. It may be called once.
func (s *Service) Run(start func(context.Context) ([]Runner, error)) error {
	defer s.close()
	type result struct {
		running []Runner
		err     error
	}
	started := make(chan result, 1)
	go func() {
		running, err := start(s.end.asked)
		started <- result{running, err}
	}()
	select {
	case r := <-started:
		if errors.Is(r.err, errEnding) {
			return nil
		}
		if r.err != nil {
			return r.err
		}
		defer s.options.logging.Flush()
		s.keepLoaded()
		s.drain(r.running)
	case <-s.end.now.Done(): // compiling a module cannot be interrupted
	}
	return nil
}

// errEnding is the error of a start that the end has overtaken.
var errEnding = errors.New("the process is ending")

// Start starts a Runner in the background. The function that it returns waits for the
// result, but no longer than ctx, the context that Run gave: a module may take long to
// compile, which cannot be interrupted. What has started later is closed. The result has
// to be waited for.
func Start[R Runner](ctx context.Context, start func() (R, error)) (result func() (R, error)) {
	type outcome struct {
		runner R
		err    error
	}
	done := make(chan outcome)
	go func() {
		r, err := start()
		select {
		case done <- outcome{r, err}:
		case <-ctx.Done():
			if err == nil {
				_ = r.Close() // the process is about to end
			}
		}
	}()
	return func() (r R, err error) {
		select {
		case o := <-done:
			return o.runner, o.err
		case <-ctx.Done():
			return r, errEnding
		}
	}
}

func (s *Service) close() {
	signal.Stop(s.hangUps)
	s.end.stop()
	s.stopMetrics()
}

// watchInterval is how often files are looked at for changes.
const watchInterval = time.Second

// keepLoaded loads modules again at SIGHUP, and with -watch when their files change,
// until the end is asked for. With a repository it looks for news now, at SIGHUP and at
// times.
func (s *Service) keepLoaded() {
	ctx := s.end.asked
	if s.options.watch {
		go s.Transports.Watch(ctx, watchInterval)
	}
	asked := make(chan struct{}, 1)
	if s.news != nil {
		go s.keepLooking(ctx, asked)
	}
	for {
		select {
		case <-s.hangUps:
			s.Transports.Reload(ctx)
			select {
			case asked <- struct{}{}:
			default: // it has been asked for already
			}
		case <-ctx.Done():
			return
		}
	}
}

// keepLooking looks for news now, when it is asked to, and at times.
func (s *Service) keepLooking(ctx context.Context, asked <-chan struct{}) {
	for retry := true; ; {
		s.lookForNews(ctx, retry)
		var next <-chan time.Time
		if s.news.from.Every > 0 {
			next = time.After(s.news.untilNextLook())
		}
		select {
		case <-asked:
			retry = true
		case <-next:
			retry = false
		case <-ctx.Done():
			return
		}
	}
}

// drain stops listening and waits for the connections to end, until the operator's limit
// or EndNow.
func (s *Service) drain(running []Runner) {
	for _, r := range running {
		if err := r.Close(); err != nil {
			s.Log.Warn("cannot stop listening", "error", err)
		}
	}
	over := make(chan struct{})
	go func() {
		var all sync.WaitGroup
		for _, r := range running {
			all.Go(r.Wait)
		}
		all.Wait()
		close(over)
	}()
	limit := time.NewTimer(s.options.drainLimit)
	defer limit.Stop()
	select {
	case <-over:
	case <-s.end.now.Done():
	case <-limit.C:
		s.Log.Info("ending with connections left", "limit", s.options.drainLimit)
	}
}
