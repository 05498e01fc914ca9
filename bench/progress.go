package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells whoever waits what is being measured: on a terminal each step,
// in one line that is overwritten, and elsewhere each test once it is done.
type progress struct {
	w        io.Writer
	terminal bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

func (p *progress) step(test string, round, rounds int, contestant string) {
	if p.terminal {
		p.printf("\r\x1b[K%s, round %d of %d, %s", test, round, rounds, contestant)
	}
}

func (p *progress) done(test string, began time.Time) {
	if p.terminal {
		p.printf("\r\x1b[K")
	}
	p.printf("%-12s %6.1f s\n", test, time.Since(began).Seconds())
}

func (p *progress) printf(format string, args ...any) {
	// That progress cannot be shown is no reason to end a run.
	_, _ = fmt.Fprintf(p.w, format, args...)
}
