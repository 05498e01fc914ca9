// Package transports has the transports of a process. It is the one place that starts
// them, loads them late, reloads them, and remembers that they have started.
package transports

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"

	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/walls"
	"waterproxy/internal/web"
	"waterproxy/transport"
)

// Set is the transports of a process. It is safe for concurrent use.
type Set struct {
	catalog *catalog.Catalog
	log     *slog.Logger
	meter   *meter.Meter
	starts  *startCache

	mu  sync.Mutex
	all []*entry
}

// Options are what a transport is started with, besides what the catalog has.
type Options struct {
	Name string
	// Args are a server's (ServerTransportOptions).
	Args transport.Args
	// Lazy is for a transport that may never be used: if it started before, as it is
	// now, it is loaded by LoadAhead, or else for its first connection.
	Lazy bool
	// Dial and DialNames are those of transport.Config.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	DialNames bool
	// Check, if not nil, has to accept a configuration before it is used.
	Check func(context.Context, transport.Config) error
}

// New returns an empty Set. m gets the figures of what is started. The catalog's state
// directory has been made.
func New(c *catalog.Catalog, log *slog.Logger, m *meter.Meter) *Set {
	return &Set{catalog: c, log: log, meter: m, starts: newStartCache(c.CacheDir(), log)}
}

// entry is a transport of a Set.
type entry struct {
	set    *Set
	o      Options
	role   transport.Role
	log    *slog.Logger
	target target
	front  *web.Front // before a server's module; nil for none. It is set by start

	mu        sync.Mutex
	module    *transport.Module    // nil as long as it has not been used
	source    *catalog.Source      // that it comes from
	tried     *catalog.Source      // that was used last, or could not be; its files are watched
	failed    bool                 // it could not be
	announced *transport.Published // what clients know of a server; nil as long as they know nothing
}

// target is a dialer or listener.
type target interface {
	Reload(context.Context, transport.Config) error
	Stats() transport.Stats
}

func (s *Set) newEntry(o Options, role transport.Role) *entry {
	return &entry{set: s, o: o, role: role, log: s.log.With("transport", o.Name)}
}

// NewDialer starts a transport's client. ctx bounds the start; after an error nothing is
// left. The user closes the dialer.
func (s *Set) NewDialer(ctx context.Context, o Options) (*transport.ReloadableDialer, error) {
	e := s.newEntry(o, transport.RoleClient)
	d := transport.NewLazyDialer(e.first)
	if _, err := e.start(ctx, func(*catalog.Source) (target, error) { return d, nil }); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// NewListener starts a transport's server, which accepts connections from inner and owns
// it, also after an error. If the settings have a web server, that stands before the module,
// and serves its pages from now on. published is what the module publishes for clients.
// ctx bounds the start. The user closes the listener.
func (s *Set) NewListener(ctx context.Context, o Options, inner net.Listener) (l *transport.Listener, published transport.Published, err error) {
	e := s.newEntry(o, transport.RoleServer)
	published, err = e.start(ctx, func(source *catalog.Source) (target, error) {
		outer, err := e.openFront(source, inner)
		if err != nil {
			return nil, err
		}
		l = transport.ListenLazy(outer, e.log, e.first)
		return l, nil
	})
	if err != nil && l == nil {
		return nil, published, errors.Join(err, inner.Close())
	}
	if err != nil {
		return nil, published, errors.Join(err, l.Close())
	}
	return l, published, nil
}

// start loads a transport, unless it may be loaded late, and adds it to the set. A
// connection that comes before the end of start waits for it.
func (e *entry) start(ctx context.Context, open func(*catalog.Source) (target, error)) (published transport.Published, err error) {
	source, err := e.set.catalog.Read(e.o.Name)
	if err != nil {
		return published, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.target, err = open(source); err != nil {
		return published, err
	}
	known := false
	if e.o.Lazy {
		published, known = e.set.starts.get(e.o, e.role, source)
	}
	if !known {
		if err := e.useBest(ctx, source); err != nil {
			return published, err
		}
		published = e.published()
	}
	e.announced = &published
	e.set.add(e)
	return published, nil
}

func (s *Set) add(e *entry) {
	s.meter.Offer(e.o.Name, e.target)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
}

// first loads a transport when its first connection comes.
func (e *entry) first(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.module != nil: // start has loaded it
		return nil
	case e.announced == nil:
		return errNotStarted
	}
	source, err := e.set.catalog.Read(e.o.Name)
	if err == nil {
		err = e.useBest(ctx, source)
	}
	return walls.Explain(err)
}

// LoadAhead loads the transports that have started without being loaded, one after the
// other, until the end of ctx, so that their first connections need not wait for that. One
// that cannot be loaded is logged; its next connection tries again.
func (s *Set) LoadAhead(ctx context.Context) {
	for _, e := range s.entries() {
		if ctx.Err() != nil {
			return
		}
		if err := e.first(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("the transport cannot be loaded; its next connection tries again", "error", err)
		}
	}
}

// errNotStarted is for a connection that comes before a start that has failed is undone.
var errNotStarted = errors.New("the transport has not started")

// useBest uses what the source has. A version from a repository that does not work is
// refused for good; if nothing is there yet, the version before it is used.
func (e *entry) useBest(ctx context.Context, source *catalog.Source) error {
	err := e.use(ctx, source)
	v, store := source.Version(), e.set.catalog.Repository
	if v == nil || ctx.Err() != nil {
		return err
	}
	if err == nil {
		if err := store.Accept(ctx, v); err != nil {
			e.log.Warn("it cannot be noted that the new version works; the next start tries it again", "version", v.Version, "error", err)
		}
		return nil
	}
	if _, bad := errors.AsType[*transport.ArgsError](err); bad {
		return err // the bridge line's fault, and not the module's
	}
	if failed := store.Refuse(ctx, v, err); failed != nil {
		return errors.Join(err, failed)
	}
	if e.module != nil {
		return err
	}
	again, readErr := e.set.catalog.Read(e.o.Name)
	if readErr != nil || again.Version() == nil || again.Version().SHA256 == v.SHA256 {
		return err
	}
	e.log.Warn("a new version cannot be used; the one before it is", "version", v.Version, "before", again.Version().Version, "error", err)
	return e.use(ctx, again)
}

// use puts what the source has in the place of what is there, if anything is. The lock is
// held.
func (e *entry) use(ctx context.Context, source *catalog.Source) error {
	e.tried = source
	cfg, err := source.Config()
	if err != nil {
		return err
	}
	cfg.Args, cfg.Dial, cfg.DialNames, cfg.Logger = e.o.Args, e.o.Dial, e.o.DialNames, e.log
	if source.Version() != nil { // nobody here has tried it
		err = transport.SelfTest(ctx, cfg)
	}
	if err == nil && e.o.Check != nil {
		err = e.o.Check(ctx, cfg)
	}
	if err == nil {
		err = e.target.Reload(ctx, cfg)
	}
	if err != nil {
		return errors.Join(source.Explain(err), cfg.Module.Close())
	}
	if e.module != nil {
		// Its connections go on; it has no error that anybody could do something about.
		_ = e.module.Close()
	}
	e.module, e.source = cfg.Module, source
	if e.o.Lazy {
		e.set.starts.put(e.o, e.role, source, e.published())
	}
	if e.announced != nil && !e.announced.Equal(e.published()) {
		e.log.Warn("the module publishes other arguments for its clients than those that were announced; start the process again")
	}
	// Decoding a module leaves several times its size behind.
	go debug.FreeOSMemory()
	return nil
}

// published returns what a server's module publishes.
func (e *entry) published() transport.Published {
	if l, ok := e.target.(*transport.Listener); ok {
		return l.Published()
	}
	return transport.Published{}
}

func (s *Set) entries() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// Reload loads the transports whose files have changed. One that does not load, or
// does not start, is logged and does not change. One that has not been used needs
// nothing: its first connection loads the files of that moment.
func (s *Set) Reload(ctx context.Context) {
	s.reload(ctx, func(e *entry) { e.log.Info("there is nothing new to load") })
}

// LoadNew is Reload for a look that nobody has asked for: that there is nothing new is not
// logged.
func (s *Set) LoadNew(ctx context.Context) { s.reload(ctx, func(*entry) {}) }

func (s *Set) reload(ctx context.Context, nothing func(*entry)) {
	var wg sync.WaitGroup
	for _, e := range s.entries() {
		wg.Go(func() {
			if !e.reload(ctx) {
				nothing(e)
			}
		})
	}
	wg.Wait()
}

// reload reports whether there was anything to load.
func (e *entry) reload(ctx context.Context) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reloadFront()
	if e.module == nil {
		return false
	}
	source, changed, err := e.readAgain()
	if err == nil && !changed && !e.failed {
		return false
	}
	if err == nil {
		err = errors.Join(checkGrants(source), e.checkFront(source))
	}
	if err == nil {
		err = e.useBest(ctx, source)
	}
	err = walls.Explain(err)
	refused := source != nil && source.Version() != nil
	e.failed = err != nil && !refused
	if err != nil {
		e.log.Warn("a new version cannot be used; the old one stays", "error", err)
		return true
	}
	e.log.Info("new connections use the new version", "sha256", fmt.Sprintf("%x", e.module.SHA256()))
	return true
}

// checkGrants returns an error if the module is granted what the walls of this process do
// not let it have.
func checkGrants(source *catalog.Source) error {
	for _, rule := range source.Allow() {
		if network, low, high := rule.Ports(); network == "tcp" && rule.Argument() == "" {
			if err := walls.CheckPorts(low, high); err != nil {
				return fmt.Errorf("allow %s: %w", rule, err)
			}
		}
	}
	return nil
}

// readAgain reads the files anew, and reports whether they have changed.
func (e *entry) readAgain() (source *catalog.Source, changed bool, err error) {
	if source, err = e.source.ReadAgain(); err != nil {
		return nil, false, err
	}
	digest, err := source.Digest()
	if err != nil {
		return nil, false, err
	}
	used, err := e.source.Digest()
	return source, digest != used, err
}
