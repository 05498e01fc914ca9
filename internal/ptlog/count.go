package ptlog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"waterproxy/transport"
)

// countInterval is the time in which failures make one line at most, those of a new kind
// excepted.
const countInterval = time.Minute

// maxKinds bounds the kinds of failures that are counted apart for one transport.
const maxKinds = 64

// otherKinds is where the rest counts.
const otherKinds = "other kinds"

// counter is a handler that writes the first of each kind of failure and counts later
// ones. Records with the attribute transport.KindKey are failures; all others pass. They
// are counted for each transport (the attribute of that name) and level apart.
type counter struct {
	slog.Handler
	transport string
	all       *tallies
}

// tallies are those of a logger and of all that were derived from it.
type tallies struct {
	mu sync.Mutex
	of map[tallyKey]*tally
}

type tallyKey struct {
	transport string
	level     slog.Level
}

// count returns a logger that writes to h, and a function that writes what has been
// counted and not yet written.
func count(h slog.Handler) (log *slog.Logger, flush func()) {
	all := &tallies{of: map[tallyKey]*tally{}}
	return slog.New(&counter{h, "", all}), all.flush
}

func (c *counter) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &counter{c.Handler.WithAttrs(attrs), c.transport, c.all}
	for _, a := range attrs {
		if a.Key == "transport" {
			next.transport = a.Value.String()
		}
	}
	return next
}

func (c *counter) WithGroup(name string) slog.Handler {
	return &counter{c.Handler.WithGroup(name), c.transport, c.all}
}

func (c *counter) Handle(ctx context.Context, r slog.Record) error {
	kind := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == transport.KindKey {
			kind = a.Value.String()
		}
		return kind == ""
	})
	if kind != "" && !c.all.get(c, r.Level).add(kind) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// get returns the tally for records of a level that come through c.
func (a *tallies) get(c *counter, level slog.Level) *tally {
	key := tallyKey{c.transport, level}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.of[key]
	if t == nil {
		t = &tally{to: c.Handler, level: level, known: map[string]bool{}, pending: map[string]int{}}
		a.of[key] = t
	}
	return t
}

func (a *tallies) flush() {
	a.mu.Lock()
	all := slices.Collect(maps.Values(a.of))
	a.mu.Unlock()
	for _, t := range all {
		t.report()
	}
}

// tally counts failures that are not written.
type tally struct {
	to    slog.Handler
	level slog.Level

	mu      sync.Mutex
	known   map[string]bool // kinds of which there was one
	pending map[string]int  // by kind, since the last line
	last    time.Time       // of a line
	timer   *time.Timer     // runs as long as something is pending
}

// add reports whether a failure is to be written: it is the first of its kind, or there
// was no line for a while. It is counted otherwise.
func (t *tally) add(kind string) (write bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known[kind] && len(t.known) >= maxKinds {
		kind = otherKinds
	}
	now := time.Now()
	if !t.known[kind] || t.timer == nil && now.Sub(t.last) >= countInterval {
		t.known[kind], t.last = true, now
		return true
	}
	t.pending[kind]++
	if t.timer == nil {
		t.timer = time.AfterFunc(countInterval-now.Sub(t.last), t.report)
	}
	return false
}

// report writes what is pending, if anything is.
func (t *tally) report() {
	t.mu.Lock()
	pending := t.pending
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer, t.pending, t.last = nil, map[string]int{}, time.Now()
	t.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	// An error of the log has no other place to go to.
	_ = t.to.Handle(context.Background(), slog.NewRecord(time.Now(), t.level, summary(pending), 0))
}

// summary describes counts, the largest first.
func summary(pending map[string]int) string {
	kinds := slices.SortedFunc(maps.Keys(pending), func(a, b string) int {
		return cmp.Or(cmp.Compare(pending[b], pending[a]), strings.Compare(a, b))
	})
	total := 0
	for i, kind := range kinds {
		total += pending[kind]
		if n := pending[kind]; n > 1 {
			kinds[i] = fmt.Sprintf("%s (%d)", kind, n)
		}
	}
	what := "connections"
	if total == 1 {
		what = "connection"
	}
	return fmt.Sprintf("%d more %s failed: %s", total, what, strings.Join(kinds, ", "))
}
