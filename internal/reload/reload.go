// Package reload puts new versions of modules, and of their settings, in the place
// of those that run.
package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"waterproxy/internal/catalog"
	"waterproxy/transport"
)

// Target is a transport that runs, whose connections can be carried in another way
// from now on.
type Target interface {
	Reload(ctx context.Context, cfg transport.Config) error
}

// Set is the transports of a process. It is safe for concurrent use.
type Set struct {
	catalog *catalog.Catalog
	log     *slog.Logger

	mu  sync.Mutex
	all []*running
}

// running is a transport of a Set.
type running struct {
	name   string
	adjust func(*transport.Config)
	target Target

	mu     sync.Mutex
	module *transport.Module
	digest [sha256.Size]byte // of the files when they were last loaded
	failed bool              // they could not be
}

// New returns an empty Set.
func New(c *catalog.Catalog, log *slog.Logger) *Set { return &Set{catalog: c, log: log} }

// Start loads a transport from the catalog and starts it. adjust, which may be nil,
// completes the configuration, now and whenever it is loaded again.
func (s *Set) Start(name string, adjust func(*transport.Config), start func(transport.Config) (Target, error)) error {
	r := &running{name: name, adjust: adjust}
	cfg, err := r.load(s.catalog)
	if err != nil {
		return err
	}
	if r.target, err = start(cfg); err != nil {
		return errors.Join(err, cfg.Module.Close())
	}
	r.module = cfg.Module
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, r)
	return nil
}

// load takes the digest first: what changes in between is loaded again.
func (r *running) load(c *catalog.Catalog) (cfg transport.Config, err error) {
	if r.digest, err = c.Digest(r.name); err != nil {
		return cfg, err
	}
	if cfg, err = c.Load(r.name); err != nil {
		return cfg, err
	}
	if r.adjust != nil {
		r.adjust(&cfg)
	}
	return cfg, nil
}

func (s *Set) transports() []*running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*running(nil), s.all...)
}

// Reload loads the transports whose files have changed. One that does not load, or
// does not start, is logged and stays as it is.
func (s *Set) Reload(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range s.transports() {
		wg.Go(func() {
			if !s.reload(ctx, r) {
				s.log.Info("the files have not changed", "transport", r.name)
			}
		})
	}
	wg.Wait()
}

// reload reports whether the files are others than at the last time.
func (s *Set) reload(ctx context.Context, r *running) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := s.log.With("transport", r.name)
	digest, err := s.catalog.Digest(r.name)
	if err == nil && digest == r.digest && !r.failed {
		return false
	}
	cfg, err := r.load(s.catalog)
	if err == nil {
		if err = r.target.Reload(ctx, cfg); err != nil {
			err = errors.Join(err, cfg.Module.Close())
		}
	}
	r.failed = err != nil
	if err != nil {
		log.Warn("a new version cannot be used; the old one stays", "error", err)
		return true
	}
	old := r.module
	r.module = cfg.Module
	// Its connections go on; it has no error that anybody could do something about.
	_ = old.Close()
	log.Info("new connections use the new version", "sha256", fmt.Sprintf("%x", cfg.Module.SHA256()))
	return true
}

// Watch looks at the files at every interval until ctx ends, and loads those that
// have changed and are at rest: a file that is being copied changes from one look to
// the next.
func (s *Set) Watch(ctx context.Context, interval time.Duration) {
	seen := map[*running]look{}
	for _, r := range s.transports() {
		seen[r] = look{now: s.look(r), changed: true} // as far as is known
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for r, l := range seen {
			now := s.look(r)
			switch {
			case now != l.now:
				l = look{now: now, changed: true}
			case l.changed:
				l.changed = false
				s.reload(ctx, r)
			}
			seen[r] = l
		}
	}
}

// look is what a transport's files looked like.
type look struct {
	now     string
	changed bool // and have not been loaded since
}

// look describes a transport's files by what changes when they do.
func (s *Set) look(r *running) (all string) {
	for _, file := range s.catalog.Files(r.name) {
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
