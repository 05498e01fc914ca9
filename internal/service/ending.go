package service

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// endSignals ask a process to end.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// Interruptible returns a context that the first SIGINT or SIGTERM ends. It is for
// commands that do not serve. stop gives the signals their usual meaning back.
func Interruptible(ctx context.Context) (_ context.Context, stop func()) {
	return signal.NotifyContext(ctx, endSignals...)
}

// ending is how far the end of a Service has come.
type ending struct {
	asked context.Context // done when nothing new is to begin
	now   context.Context // done when nothing is to be waited for either
	endIt context.CancelFunc
	once  sync.Once // for the log
	log   *slog.Logger
	stop  func() // stops waiting for signals
}

// watchEnd waits for signals until stop is called: the first one asks for the end, the
// second one for the end now. They may come while transports are still being started.
func watchEnd(log *slog.Logger) *ending {
	now, endIt := context.WithCancel(context.Background())
	asked, ask := context.WithCancel(now)
	e := &ending{asked: asked, now: now, endIt: endIt, log: log}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endSignals...)
	e.stop = func() {
		signal.Stop(signals)
		endIt()
	}
	go func() {
		select {
		case s := <-signals:
			log.Info("ending when the connections have", "signal", s.String())
			ask()
		case <-now.Done():
			return
		}
		select {
		case <-signals:
			e.setNow("a second signal came")
		case <-now.Done():
		}
	}()
	return e
}

// setNow asks for the end now.
func (e *ending) setNow(why string) {
	if e.now.Err() == nil {
		e.once.Do(func() { e.log.Info("ending at once", "because", why) })
	}
	e.endIt()
}
