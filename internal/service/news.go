package service

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"waterproxy/internal/meter"
	"waterproxy/internal/mirror"
	"waterproxy/internal/outbound"
	"waterproxy/internal/program"
	"waterproxy/internal/repository"
	"waterproxy/internal/updater"
	"waterproxy/internal/userfile"
	"waterproxy/internal/walls"
)

// From says where new versions of modules come from.
type From struct {
	// Mirrors are copies of one repository, and Root the file with its first keys; "" is
	// that of the executable.
	Mirrors []string
	Root    string
	// Every is how often news is looked for; 0 means at the start and at SIGHUP only.
	Every time.Duration
	// Via is the proxy through which mirrors are reached; "" is none, or tor's.
	Via string
}

const (
	defaultEvery = time.Hour
	// firstLook is how long a start waits for a transport that is not here yet.
	firstLook = time.Minute
	// staleInterval is how often the log says that there is still no news to be had.
	staleInterval = 24 * time.Hour
)

// fromFile has the keys of a settings file.
type fromFile struct {
	From  []string `toml:"from"`
	Root  string   `toml:"root"`
	Every string   `toml:"every"`
	Via   string   `toml:"via"`
}

// Read takes from a TOML file what flags have not said. Paths in it are relative to it.
func (f *From) Read(file string) error {
	text, err := userfile.Read(file, userfile.MaxSettings)
	if err != nil {
		return err
	}
	var d fromFile
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&d); err != nil {
		if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return fmt.Errorf("%s: there is no key %s; there are from, root, every and via", file, strings.Join(unknown.Errors[0].Key(), "."))
		}
		if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := bad.Position()
			return fmt.Errorf("%s:%d: %s; from is a list of strings, and root, every and via are strings", file, line, strings.Join(bad.Key(), "."))
		}
		return fmt.Errorf("%s: %w", file, err)
	}
	local := func(name string) string {
		if name == "" || filepath.IsAbs(name) || strings.Contains(name, "://") {
			return name
		}
		return filepath.Join(filepath.Dir(file), name)
	}
	if len(f.Mirrors) == 0 {
		for _, where := range d.From {
			f.Mirrors = append(f.Mirrors, local(where))
		}
	}
	if f.Root == "" {
		f.Root = local(d.Root)
	}
	if f.Via == "" {
		f.Via = d.Via
	}
	if d.Every != "" && !f.everyIsSet() {
		if f.Every, err = time.ParseDuration(d.Every); err != nil {
			return fmt.Errorf("%s: every: %q is no time such as 1h", file, d.Every)
		}
	}
	return nil
}

func (f *From) everyIsSet() bool { return f.Every != defaultEvery }

// Check returns what is wrong with it.
func (f *From) Check() error {
	if f.Every < 0 || f.Every > 0 && f.Every < time.Second {
		return fmt.Errorf("-every: %v is no time to look for news; it is 1s or more, or 0", f.Every)
	}
	if f.Via != "" {
		if _, err := outbound.ParseProxy(f.Via); err != nil {
			return fmt.Errorf("-via: %w", err)
		}
	}
	if len(f.Mirrors) == 0 && (f.Root != "" || f.Via != "") {
		return errors.New("-root and -via are for a repository, which -from names")
	}
	return nil
}

// news looks for new versions of the transports of a Service.
type news struct {
	from    From
	request updater.Request
	meter   *meter.Looks
	names   []string  // of the transports that are served
	err     error     // of the last look
	warned  time.Time // when the log last said that there is no news to be had
}

// openNews lets the modules that are kept be used, and prepares the looks. Without a
// repository there are none: what is kept may have been brought by hand.
func (s *Service) openNews() {
	kept := s.Catalog.CacheDir()
	s.Catalog.Repository = nil
	if kept != "" {
		s.Catalog.Repository = repository.New(kept)
	}
	f := s.options.From
	if len(f.Mirrors) == 0 {
		return
	}
	root, err := repository.ReadRoot(f.Root)
	if err == nil && kept == "" {
		err = errors.New("modules of a repository are kept in the state directory, which must belong to this user alone")
	}
	if err != nil {
		s.Log.Error("no modules of the repository can be used", "error", err)
		s.newsErr = err
		return
	}
	s.news = &news{from: f, meter: s.Meter.Looks(), request: updater.Request{State: s.Catalog.StateDir, Root: root, From: f.Mirrors, Proxy: f.Via}}
}

// Reach says how the network is reached, by tor's wish: the upstream proxy, unless the
// operator has named another one for the repository, and the addresses to come from.
func (s *Service) Reach(proxy, source4, source6 string) {
	if n := s.news; n != nil {
		if n.request.Proxy == "" {
			n.request.Proxy = proxy
		}
		n.request.Source4, n.request.Source6 = source4, source6
	}
}

// FirstLook gets from the repository the transports that are not here, and waits for that,
// but no longer than a minute. The error is why one of them cannot be had.
func (s *Service) FirstLook(ctx context.Context, names []string) error {
	n := s.news
	if n == nil {
		return nil
	}
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		v := s.Catalog.FromRepository(name)
		return v == nil && s.Catalog.Has(name) || v != nil && s.Catalog.Repository.Has(v)
	})
	if len(missing) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	return s.look(ctx, missing, true)
}

// WhyNot returns why a transport that is not here did not come from the repository, if there
// is one; lookErr is that of FirstLook.
func (s *Service) WhyNot(name string, lookErr error) error {
	if s.newsErr != nil || s.news == nil {
		return s.newsErr
	}
	offered, err := s.Catalog.Repository.Offered()
	if err != nil {
		return errors.Join(lookErr, err)
	}
	for _, v := range offered {
		if v.Transport == name {
			return cmp.Or(v.Runs(program.Version), lookErr)
		}
	}
	if lookErr != nil && len(offered) == 0 {
		return lookErr
	}
	return errors.New("neither the repository nor this executable has a transport of that name")
}

// Have gets a transport from the repository, if it is from there and not here yet, and
// returns an error unless there is one of that name.
func (s *Service) Have(ctx context.Context, name string) error {
	lookErr := s.FirstLook(ctx, []string{name})
	if err := s.Catalog.Find(name); err != nil {
		return errors.Join(err, s.WhyNot(name, lookErr))
	}
	return nil
}

// lookForNews looks for new versions of what is served, and loads them.
func (s *Service) lookForNews(ctx context.Context, retry bool) {
	// What the user has put there comes before the repository.
	names := slices.DeleteFunc(slices.Clone(s.news.names), func(name string) bool {
		return s.Catalog.FromRepository(name) == nil && s.Catalog.Has(name) && !s.Catalog.BuiltIn(name)
	})
	if len(names) == 0 {
		return
	}
	// The log has an error.
	_ = s.look(ctx, names, retry)
	s.Transports.LoadNew(ctx)
}

// look looks at the repository once. An error is logged, but not the same state of things
// more than once a day.
func (s *Service) look(ctx context.Context, names []string, retry bool) error {
	n := s.news
	r := n.request
	r.Names, r.Retry = names, retry
	found, err := updater.Start(ctx, r, s.Log)
	if ctx.Err() != nil && s.end.asked.Err() != nil {
		return err // the process is ending
	}
	for _, v := range found.Next {
		s.Log.Info("the repository has a new version", "transport", v.Transport, "version", v.Version, "sha256", v.SHA256)
	}
	if err != nil {
		n.meter.Failed()
	} else {
		n.meter.Verified(time.Now(), found.Expires)
	}
	switch {
	case err != nil && (n.err == nil || time.Since(n.warned) > staleInterval):
		s.Log.Warn("no news of the repository can be had; what is here goes on being used", "error", err)
		n.warned = time.Now()
	case err == nil && n.err != nil:
		s.Log.Info("the repository can be looked at again", "mirror", found.Mirror)
	}
	n.err = err
	return err
}

// untilNextLook returns how long to wait: all that look at one repository are not to do so
// at one moment, or at moments that would tell who they are.
func (n *news) untilNextLook() time.Duration {
	return time.Duration((0.8 + 0.4*rand.Float64()) * float64(n.from.Every))
}

// ports returns what the walls have to let the looks connect to.
func (n *news) ports() (ports []walls.PortRange) {
	proxy := n.request.Proxy
	if proxy != "" {
		p, err := outbound.ParseProxy(proxy)
		if err != nil {
			return nil // it has been checked before
		}
		return []walls.PortRange{walls.Port(p.Port()), walls.DNS}
	}
	for _, where := range n.from.Mirrors {
		if port := mirror.Port(where); port != "" {
			ports = append(append(ports, portRange(port)...), walls.DNS)
			if port == "443" || port == "80" { // a redirect
				ports = append(ports, walls.Port(443), walls.Port(80))
			}
		}
	}
	return ports
}

// files returns what the looks read from this machine: directories with all that is in
// them, and files.
func (n *news) files() (dirs, files []string) {
	for _, where := range n.from.Mirrors {
		if mirror.Port(where) != "" {
			continue
		}
		where = strings.TrimPrefix(where, "file://")
		if info, err := os.Stat(where); err == nil && !info.IsDir() {
			files = append(files, where)
		} else {
			dirs = append(dirs, where)
		}
	}
	// crypto/x509 reads these in the place of the system's certificates.
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		files = append(files, file)
	}
	return append(dirs, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...), files
}

func portRange(text string) []walls.PortRange {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return []walls.PortRange{walls.Port(uint16(n))}
	}
	return nil
}
