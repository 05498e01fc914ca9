// Package reload puts new versions of modules, and of their settings, in the place
// of those that run.
package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/transport"
)

// Target is a transport whose connections a Set can have carried in another way. The
// Set calls Reload for one version after the other; the first one starts the transport.
type Target interface {
	Reload(ctx context.Context, cfg transport.Config) error
}

// Set is the transports of a process. It is safe for concurrent use.
type Set struct {
	catalog *catalog.Catalog
	log     *slog.Logger

	mu  sync.Mutex
	all []*entry
}

// entry is a transport of a Set.
type entry struct {
	name   string
	adjust func(*transport.Config)
	target Target

	mu     sync.Mutex
	module *transport.Module // nil as long as it has not been used
	source *catalog.Source   // that it comes from
	failed bool              // later ones could not be used
}

// New returns an empty Set.
func New(c *catalog.Catalog, log *slog.Logger) *Set { return &Set{catalog: c, log: log} }

// Start loads a transport from the catalog and starts it. adjust, which may be nil,
// completes the configuration, now and whenever it is loaded again.
func (s *Set) Start(ctx context.Context, name string, adjust func(*transport.Config), target Target) error {
	e := &entry{name: name, adjust: adjust, target: target}
	if err := e.load(ctx, s.catalog); err != nil {
		return err
	}
	s.add(e)
	return nil
}

// StartLater is Start for a transport that is to be loaded when it is first used. That
// is what the function it returns is for; it does nothing once it has succeeded.
func (s *Set) StartLater(name string, adjust func(*transport.Config), target Target) (load func(context.Context) error) {
	e := &entry{name: name, adjust: adjust, target: target}
	s.add(e)
	return func(ctx context.Context) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.module != nil {
			return nil
		}
		return e.load(ctx, s.catalog)
	}
}

func (s *Set) add(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
}

// load reads the files, and puts what they are now in the place of what is there, if
// anything is.
func (e *entry) load(ctx context.Context, c *catalog.Catalog) error {
	source, err := c.Read(e.name)
	if err != nil {
		return err
	}
	return e.use(ctx, c, source)
}

func (e *entry) use(ctx context.Context, c *catalog.Catalog, source *catalog.Source) error {
	cfg, err := source.Config()
	if err != nil {
		return err
	}
	if e.adjust != nil {
		e.adjust(&cfg)
	}
	if err := e.target.Reload(ctx, cfg); err != nil {
		return errors.Join(c.Explain(e.name, err), cfg.Module.Close())
	}
	if e.module != nil {
		// Its connections go on; it has no error that anybody could do something about.
		_ = e.module.Close()
	}
	e.module, e.source = cfg.Module, source
	// Decoding a module leaves several times its size behind.
	go debug.FreeOSMemory()
	return nil
}

func (s *Set) transports() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*entry(nil), s.all...)
}

// Reload loads the transports whose files have changed. One that does not load, or
// does not start, is logged and stays as it is. One that has not been used needs
// nothing: its first connection loads what there is then.
func (s *Set) Reload(ctx context.Context) {
	var wg sync.WaitGroup
	for _, e := range s.transports() {
		wg.Go(func() {
			if !s.reload(ctx, e) {
				s.log.Info("there is nothing new to load", "transport", e.name)
			}
		})
	}
	wg.Wait()
}

// reload reports whether there was anything to load.
func (s *Set) reload(ctx context.Context, e *entry) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	log := s.log.With("transport", e.name)
	if e.module == nil {
		return false
	}
	source, err := e.source.ReadAgain()
	if err == nil {
		if source.Digest() == e.source.Digest() && !e.failed {
			return false
		}
		err = e.use(ctx, s.catalog, source)
	}
	e.failed = err != nil
	if err != nil {
		log.Warn("a new version cannot be used; the old one stays", "error", err)
		return true
	}
	log.Info("new connections use the new version", "sha256", fmt.Sprintf("%x", e.module.SHA256()))
	return true
}

// Watch looks at the files at every interval until ctx ends, and loads those that
// have changed and are at rest: a file that is being copied changes from one look to
// the next.
func (s *Set) Watch(ctx context.Context, interval time.Duration) {
	seen := map[*entry]look{}
	for _, e := range s.transports() {
		seen[e] = look{now: s.look(e), changed: true} // as far as is known
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for e, l := range seen {
			now := s.look(e)
			switch {
			case now != l.now:
				l = look{now: now, changed: true}
			case l.changed:
				l.changed = false
				s.reload(ctx, e)
			}
			seen[e] = l
		}
	}
}

// look is what a transport's files looked like.
type look struct {
	now     string
	changed bool // and have not been loaded since
}

// look describes a transport's files by what changes when they do.
func (s *Set) look(e *entry) (all string) {
	for _, file := range s.catalog.Files(e.name) {
		info, err := os.Stat(file)
		switch {
		case err == nil:
			all += fmt.Sprintf("%s %d %d\n", file, info.Size(), info.ModTime().UnixNano())
		case !errors.Is(err, fs.ErrNotExist):
			all += fmt.Sprintf("%s %v\n", file, err)
		}
	}
	return all
}
