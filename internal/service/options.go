package service

import (
	"errors"
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
	// From is where new versions of modules come from.
	From From

	fromFile   string
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
	fs.Func("from", "offer the modules of the repository at `URL-or-DIR` too; repeatable, for mirrors of one repository", func(where string) error {
		o.From.Mirrors = append(o.From.Mirrors, where)
		return nil
	})
	fs.StringVar(&o.From.Root, "root", "", "trust the repository by the keys in `FILE`, from its publisher")
	fs.DurationVar(&o.From.Every, "every", defaultEvery, "how often to look for news of the repository; 0 is at the start and at SIGHUP only")
	fs.StringVar(&o.From.Via, "via", "", "reach the repository through the proxy at `URL`, as socks5://127.0.0.1:9050")
	fs.StringVar(&o.fromFile, "repository", "", "read from, root, every and via from the TOML file `FILE`, unless flags say them")
	dest := "stderr"
	if o.ToTor {
		dest = ""
	}
	o.logging.Register(fs, dest)
}

// Check reads the file of -repository, and returns what is wrong with the flags, except those
// of one transport and of the metrics, without which a process can serve.
func (o *Options) Check() error {
	if o.drainLimit < 0 {
		return fmt.Errorf("-drain: %v is no time to wait; it is 0 or more, as 30s", o.drainLimit)
	}
	if o.fromFile != "" {
		if err := o.From.Read(o.fromFile); err != nil {
			return fmt.Errorf("-repository: %w", err)
		}
	}
	o.Catalog.Fetches = len(o.From.Mirrors) > 0
	return errors.Join(o.From.Check(), o.logging.Check())
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
