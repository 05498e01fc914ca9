package ptlog

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"waterproxy/transport"
)

// Flags are an operator's wishes for the log.
type Flags struct {
	level     slog.LevelVar
	dest      string
	format    string
	addresses bool
	flush     func() // of the logger; nil before there is one
}

// Register adds the flags to a set. dest is where records go by default: "" for
// nowhere.
func (f *Flags) Register(fs *flag.FlagSet, dest string) {
	fs.TextVar(&f.level, "log-level", &f.level, "least `LEVEL` of log records: debug, info, warn or error")
	fs.StringVar(&f.dest, "log", dest, "write the log to stderr, or to the file `NAME` in the state directory")
	fs.StringVar(&f.format, "log-format", "text", "`FORMAT` of that log: text or json")
	fs.BoolVar(&f.addresses, "log-addresses", false, "leave addresses in that log, which endangers users")
}

// Check tells what is wrong with the flags.
func (f *Flags) Check() error {
	if f.format != "text" && f.format != "json" {
		return fmt.Errorf("-log-format: %q is neither text nor json", f.format)
	}
	if f.dest != "" && !filepath.IsLocal(f.dest) {
		return fmt.Errorf("-log: %q is not the name of a file in the state directory", f.dest)
	}
	return nil
}

// ToTorAnd returns a logger whose records go to tor, and where the flags want them. If
// there is an error, the logger is good without what it is about. Failures of which
// there may be any number (transport.KindKey) are counted; see Flush.
func (f *Flags) ToTorAnd(stateDir string) (*slog.Logger, error) {
	h, err := f.handler(stateDir, New(&f.level))
	if err != nil || h == nil {
		return f.counting(torHandler(&f.level)), err
	}
	return f.counting(slog.NewMultiHandler(torHandler(&f.level), h)), nil
}

// Open returns the logger that the flags want. If there is an error, the logger writes to
// standard error. It counts as that of ToTorAnd does.
func (f *Flags) Open(stateDir string) (*slog.Logger, error) {
	h, err := f.handler(stateDir, slog.New(f.toStderr()))
	if err != nil {
		h = f.toStderr()
	}
	if h == nil {
		h = slog.DiscardHandler
	}
	return f.counting(h), err
}

// counting returns a logger to h that counts failures.
func (f *Flags) counting(h slog.Handler) (log *slog.Logger) {
	log, f.flush = count(h)
	return log
}

// Flush writes the failures that have been counted and not yet written. It is for the
// end of the process.
func (f *Flags) Flush() {
	if f.flush != nil {
		f.flush()
	}
}

// handler opens the log, nil if none is wanted. warn gets what is wrong with a file
// later.
func (f *Flags) handler(stateDir string, warn *slog.Logger) (slog.Handler, error) {
	switch {
	case f.dest == "":
		return nil, nil
	case f.dest == "stderr":
		return f.toStderr(), nil
	case stateDir == "":
		return nil, fmt.Errorf("-log: there is no state directory for %q", f.dest)
	}
	h, err := f.toFile(filepath.Join(stateDir, f.dest), warn)
	if err != nil {
		return nil, fmt.Errorf("-log: %w", err)
	}
	return h, nil
}

// formatted returns a handler that writes records as the flags say.
func (f *Flags) formatted(w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: &f.level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if f.addresses {
			return reveal(a)
		}
		return scrub(a)
	}}
	if f.format == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// private is something that has an address in it, with what may be shown of it.
type private struct{ full, scrubbed string }

// Address is an attribute with an address, or a host's name.
func Address(key, address string) slog.Attr { return slog.Any(key, private{address, "[scrubbed]"}) }

// Error is an attribute with an error of a connection, which may name addresses.
func Error(err error) slog.Attr {
	p := private{scrubbed: transport.Scrub(err)}
	if err != nil {
		p.full = err.Error()
	}
	return slog.Any("error", p)
}

func reveal(a slog.Attr) slog.Attr {
	if p, ok := a.Value.Any().(private); ok {
		a.Value = slog.StringValue(p.full)
	}
	return a
}
