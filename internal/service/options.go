package service

import (
	"flag"
	"fmt"
	"log/slog"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
)

// Options are an operator's wishes for a serving process.
type Options struct {
	// Catalog has the flags of transports. Its StateDir and StateFlag are set before Open.
	Catalog catalog.Catalog
	// ToTor sends the log to tor, as lines of the PT protocol, whatever the flags
	// add to that. It is set before Register.
	ToTor bool

	logging    ptlog.Flags
	metrics    string
	watch      bool
	drainLimit time.Duration
	wallsOff   bool
}

// Register adds the flags to a set.
func (o *Options) Register(fs *flag.FlagSet) {
	o.Catalog.Flags(fs)
	fs.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics at `ADDRESS`: unix:PATH or a loopback HOST:PORT")
	fs.BoolVar(&o.watch, "watch", false, "look for changes of modules and their settings, and load them")
	fs.DurationVar(&o.drainLimit, "drain", 30*time.Second, "how long connections may go on after a signal")
	fs.Func("walls", "put a second wall round the process: `on` or off", o.setWalls)
	dest := "stderr"
	if o.ToTor {
		dest = ""
	}
	o.logging.Register(fs, dest)
}

// Check returns what is wrong with the flags, except those of one transport and of the
// metrics, without which a process can serve.
func (o *Options) Check() error {
	if o.drainLimit < 0 {
		return fmt.Errorf("-drain: %v is no time to wait; it is 0 or more, as 30s", o.drainLimit)
	}
	return o.logging.Check()
}

// CheckMetrics returns what is wrong with the address of the metrics.
func (o *Options) CheckMetrics() error {
	if o.metrics == "" {
		return nil
	}
	return meter.CheckAddress(o.metrics)
}

// openLog returns the logger. If the place that the flags name cannot be had, it logs to
// the place that is left, beginning with the reason.
func (o *Options) openLog() *slog.Logger {
	open, left := o.logging.Open, "the log goes to standard error"
	if o.ToTor {
		open, left = o.logging.ToTorAnd, "the log goes to tor alone"
	}
	log, err := open(o.Catalog.StateDir)
	if err != nil {
		log.Warn(left, "error", err)
	}
	return log
}
