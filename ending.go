package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// parentCheck is how often to look whether the parent still lives. Standard input
// says so at once, where tor says that it will.
const parentCheck = 2 * time.Second

// ending is how far the end of the program has come.
type ending struct {
	asked context.Context // done when nothing new is to begin
	now   context.Context // done when nothing is to be waited for either
}

// watchEnd waits for somebody to want the end: a signal asks for it, and a second
// one wants it now, as do tor's closing of standard input, if it has announced that,
// and its death (pt-spec 3.2.1, 3.4). It may come while transports are still being
// started.
func watchEnd(log *slog.Logger) (*ending, func()) {
	now, setNow := context.WithCancel(context.Background())
	asked, setAsked := context.WithCancel(now)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// What tor does not read any more must not end the program by itself.
	signal.Ignore(syscall.SIGPIPE)
	end := func(why string) {
		if now.Err() == nil {
			log.Info("ending at once", "because", why)
		}
		setNow()
	}
	go func() {
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					end("a second signal came")
					return
				}
				log.Info("ending when the connections have", "signal", s.String())
				setAsked()
			case <-now.Done():
				return
			}
		}
	}()
	if os.Getenv("TOR_PT_EXIT_ON_STDIN_CLOSE") == "1" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // an error means as much as the end
			end("standard input was closed")
		}()
	}
	go watchParent(now, func() { end("the parent process is gone") })
	return &ending{asked, now}, func() {
		signal.Stop(signals)
		setNow()
	}
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

// drain stops listening and waits for the connections to end, until the limit, or
// until somebody wants the end now.
func (m *managed) drain(end *ending) {
	for _, l := range m.running {
		if err := l.Close(); err != nil {
			m.log.Warn("cannot stop listening", "error", err)
		}
	}
	over := make(chan struct{})
	go func() {
		var all sync.WaitGroup
		for _, l := range m.running {
			all.Go(l.Wait)
		}
		all.Wait()
		close(over)
	}()
	limit := time.NewTimer(m.drainLimit)
	defer limit.Stop()
	select {
	case <-over:
	case <-end.now.Done():
	case <-limit.C:
		m.log.Info("ending with connections left", "limit", m.drainLimit)
	}
}
