package transports

import (
	"context"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/internal/userfile"
)

// Watch looks at the files of the transports that have been used at every interval until
// ctx ends, and loads those that have changed and are at rest: a file that is being copied
// changes from one look to the next. A look opens and parses nothing.
func (s *Set) Watch(ctx context.Context, every time.Duration) {
	seen := map[*entry]look{}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, e := range s.entries() {
			next, rested := e.look(seen[e])
			seen[e] = next
			if rested {
				e.reload(ctx)
			}
		}
	}
}

// look is what a transport's files looked like.
type look struct {
	at      *catalog.Source // whose files they are
	stamp   string
	changed bool // and have not been loaded since
}

// look returns the next look after last, and whether the files have changed since they
// were read and now are at rest.
func (e *entry) look(last look) (next look, rested bool) {
	e.mu.Lock()
	source := e.tried
	used := e.module != nil
	e.mu.Unlock()
	if !used {
		return look{}, false // its first connection loads the files of that moment
	}
	if last.at != source {
		last = look{source, source.Stamp(), false}
	}
	next = look{source, userfile.Stamp(source.Files()...), last.changed}
	switch {
	case next.stamp != last.stamp:
		next.changed = true
	case last.changed:
		next.changed = false
		return next, true
	}
	return next, false
}
