package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// parentCheck is how often to look whether the parent still lives. Standard input
// says so at once, where tor says that it will.
const parentCheck = 2 * time.Second

// ending is how far the end of the program has come.
type ending struct {
	asked  context.Context // done when nothing new is to begin
	now    context.Context // done when nothing is to be waited for either
	setNow func()
	log    *slog.Logger
}

// watchEnd waits for signals until stop is called: the first one, or the end of ctx,
// asks for the end, and a second one wants it now. They may come while transports are
// still being started.
func watchEnd(ctx context.Context, log *slog.Logger) (e *ending, stop func()) {
	asked, setAsked := context.WithCancel(ctx)
	now, setNow := context.WithCancel(context.WithoutCancel(ctx))
	e = &ending{asked: asked, now: now, setNow: setNow, log: log}
	context.AfterFunc(now, setAsked)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					e.end("a second signal came")
					return
				}
				log.Info("ending when the connections have", "signal", s.String())
				setAsked()
			case <-now.Done():
				return
			}
		}
	}()
	return e, func() {
		signal.Stop(signals)
		setNow()
	}
}

// end wants the end now.
func (e *ending) end(why string) {
	if e.now.Err() == nil {
		e.log.Info("ending at once", "because", why)
	}
	e.setNow()
}

// watchTor wants the end now when tor closes standard input, if it has announced that,
// and when it dies (pt-spec 3.2.1, 3.4).
func (e *ending) watchTor() {
	if os.Getenv("TOR_PT_EXIT_ON_STDIN_CLOSE") == "1" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // an error means as much as the end
			e.end("standard input was closed")
		}()
	}
	go watchParent(e.now, func() { e.end("the parent process is gone") })
}

// watchParent calls gone once the process that started this one has ended, on
// systems where the number of the parent then changes.
func watchParent(ctx context.Context, gone func()) {
	parent := os.Getppid()
	ticker := time.NewTicker(parentCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if os.Getppid() != parent {
				gone()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
