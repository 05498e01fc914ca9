package repository

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/mirror"
	"waterproxy/internal/release"
)

// Options are how a repository is looked at.
type Options struct {
	// Root is the metadata that is trusted at first; see ReadRoot.
	Root []byte
	// Mirrors are tried in turn.
	Mirrors []mirror.Mirror
	// Names are the transports to keep up to date. Nil: all that there are.
	Names []string
	// Retry tries again what did not work before.
	Retry bool
	// Waterproxy is the version of this program.
	Waterproxy string
	// Now is the time by which metadata expires.
	Now time.Time
	// Log gets what is no error. It is not nil.
	Log *slog.Logger
}

// News is what a look at a repository has brought.
type News struct {
	// Mirror is where it was found.
	Mirror string
	// Next are new versions, verified and not tried.
	Next []Version
	// Expires is when the first of the metadata expires.
	Expires time.Time
}

// rootInterval is how often a mirror is asked for new keys when it has nothing else that is
// new. One that hides new keys could do so at any question.
const rootInterval = 24 * time.Hour

// Update looks for news once. What it returns has been verified and is here; it takes the
// place of nothing before Accept. After an error everything that was here is as it was,
// except that what was verified before the error stays.
func (s *Store) Update(ctx context.Context, o Options) (news News, err error) {
	unlock, err := s.lock(ctx, lookLock)
	if err != nil {
		return news, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	i, err := s.Index()
	if err != nil {
		o.Log.Warn("what is known of the modules here is lost; they are fetched again", "error", err)
		i = newIndex()
	}
	last, err := s.Look()
	if err != nil {
		o.Log.Warn("it is not known when the repository was last looked at", "error", err)
		last = Look{}
	}
	if o.Now.Before(last.Checked.Add(-time.Hour)) {
		o.Log.Warn("the clock is behind what it was when the repository was last looked at: expired metadata may be taken for good", "last", last.Checked)
	}
	if len(o.Mirrors) == 0 {
		return news, errors.New("no repository is named")
	}
	var errs []error
	for at := range o.Mirrors {
		l := &look{Store: s, Options: o, index: i, last: last, fetched: map[string]bool{}, whole: map[string]bool{}, mirrors: slices.Concat(o.Mirrors[at:], o.Mirrors[:at]), left: len(o.Mirrors) - at}
		news, err := l.run(ctx)
		if err == nil || l.done {
			return news, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil || errors.Is(err, ErrOtherRepository) {
			break
		}
	}
	return news, errors.Join(errs...)
}

// look is one look at one mirror.
type look struct {
	*Store
	Options
	index   *Index
	last    Look            // the look before
	mirrors []mirror.Mirror // the first is looked at; modules may come from the others too
	left    int             // mirrors that have not been looked at, with the first
	trust   *trust
	signed  map[string][]string // by role
	fetched map[string]bool     // SHA-256 of modules that were not here before
	whole   map[string]bool     // SHA-256 of modules whose files were compared with it
	done    bool                // the metadata is verified, and another mirror would be no help
}

func (l *look) run(ctx context.Context) (news News, err error) {
	news.Mirror = l.mirrors[0].String()
	sum, same, err := l.follow(ctx)
	if err != nil {
		return news, err
	}
	if same {
		news.Expires = l.last.Expires
		l.last.Checked = l.Now
		return news, l.writeJSON("look.json", l.last)
	}
	l.done = true
	offered := l.offered()
	if err := l.writeJSON("offered.json", offered); err != nil {
		return news, err
	}
	var errs []error
	var here []Version
	for _, v := range offered {
		if !l.wants(v.Transport) {
			continue
		}
		if err := l.bring(ctx, &v); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", v.Transport, v.Version, err))
		} else {
			here = append(here, v)
		}
		if ctx.Err() != nil {
			break
		}
	}
	done := Look{Checked: l.Now, Rooted: l.Now, Expires: l.trust.expires(), Timestamp: sum}
	if len(errs) > 0 {
		done.Timestamp = "" // the next look tries again
	}
	news.Expires = done.Expires
	if news.Next, err = l.enter(ctx, offered, here); err != nil {
		return news, errors.Join(append(errs, err)...)
	}
	return news, errors.Join(append(errs, l.writeJSON("look.json", done))...)
}

// follow verifies the metadata of the first mirror. sum is the SHA-256 of its timestamp;
// same is whether that is what the last look has followed to the end.
func (l *look) follow(ctx context.Context) (sum string, same bool, err error) {
	ctx, cancel := share(ctx, l.left)
	defer cancel()
	if l.trust, err = openTrust(l.path("metadata"), l.Root, l.Now, l.Log); err != nil {
		return "", false, err
	}
	timestamp, err := l.trust.timestamp(ctx, l.mirrors[0])
	if err != nil {
		return "", false, err
	}
	sum = fmt.Sprintf("%x", sha256.Sum256(timestamp))
	if sum == l.last.Timestamp && l.Now.Sub(l.last.Rooted).Abs() < rootInterval && l.Now.Before(l.last.Expires) && l.isHere() {
		return sum, true, nil
	}
	if err := l.trust.refresh(ctx, l.mirrors[0], timestamp); err != nil {
		return sum, false, fmt.Errorf("%s: %w", l.mirrors[0], err)
	}
	return sum, false, nil
}

// enter puts versions whose modules are here into the index, and removes the files of
// those that are not there any more. It returns those that wait for a trial. The index is
// read again: others may have changed it while a mirror took its time.
func (l *look) enter(ctx context.Context, offered, here []Version) (next []Version, err error) {
	unlock, err := l.lock(ctx, indexLock)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if l.index, err = l.Index(); err != nil {
		l.index = newIndex()
	}
	for _, v := range here {
		if l.take(v) {
			next = append(next, v)
		}
	}
	l.withdraw(offered)
	if err := l.writeJSON("modules.json", l.index); err != nil {
		return nil, err
	}
	return next, errors.Join(l.prune(l.index), l.prunePartial(offered))
}

func (l *look) wants(name string) bool { return l.Names == nil || slices.Contains(l.Names, name) }

// isHere reports whether all that the last look found is here, so that a repository that
// has not changed since has nothing to bring.
func (l *look) isHere() bool {
	offered, err := l.Offered()
	if err != nil {
		return false
	}
	for _, v := range offered {
		if l.wants(v.Transport) && l.wouldTake(&v) {
			return false
		}
	}
	return true
}

// wouldTake reports whether a version is to become the next one.
func (l *look) wouldTake(v *Version) bool {
	m := l.index.Modules[v.Transport]
	switch {
	case m == nil:
		return v.Runs(l.Waterproxy) == nil
	case m.Pinned:
		return false
	case m.Refused != nil && m.Refused.SHA256 == v.SHA256 && !l.Retry:
		return l.fetched[v.SHA256] || !l.has(v) // it may be its damaged file that was refused
	}
	best := l.index.Best(v.Transport)
	return best == nil || best.SHA256 != v.SHA256 || !l.has(v)
}

// has is Has, which reads the module: once in a look is enough, as whoever loads it reads it
// again.
func (l *look) has(v *Version) bool {
	if !l.whole[v.SHA256] {
		l.whole[v.SHA256] = l.Has(v)
	}
	return l.whole[v.SHA256]
}

// bring fetches a version's module if it is to become the next one and is not here.
func (l *look) bring(ctx context.Context, v *Version) error {
	if err := v.Runs(l.Waterproxy); err != nil {
		return err
	}
	if !l.wouldTake(v) || l.has(v) {
		return nil
	}
	err := l.fetch(ctx, v)
	l.fetched[v.SHA256] = err == nil
	return err
}

// take makes a version the next one of its transport, if its module is here. isNew is
// whether there is anything to try.
func (l *look) take(v Version) (isNew bool) {
	m := l.index.Modules[v.Transport]
	if !l.wouldTake(&v) {
		for _, here := range m.Versions() {
			if here.SHA256 == v.SHA256 {
				*here = v // what is said of it may be new
			}
		}
		return false
	}
	if !l.has(&v) {
		return false // the next look fetches it
	}
	if m == nil {
		m = &Module{}
		l.index.Modules[v.Transport] = m
	}
	if m.Current != nil && m.Current.SHA256 == v.SHA256 {
		*m.Current, m.Next = v, nil // its file was damaged, or a newer one was taken back before it was tried
		return false
	}
	m.Next = &v
	return true
}

// offered returns the modules that the repository has, sorted by name. What is malformed
// is logged, and costs the others nothing.
func (l *look) offered() []Version {
	byName := map[string][]Version{}
	for _, file := range l.trust.files() {
		v, ok, err := l.describe(file)
		if err != nil {
			l.Log.Warn("a file of the repository is not offered", "file", file, "error", err)
		} else if ok {
			byName[v.Transport] = append(byName[v.Transport], v)
		}
	}
	all := make([]Version, 0, len(byName))
	for name, versions := range byName {
		if len(versions) > 1 {
			l.Log.Warn("a transport of the repository is not offered: more than one file is its module", "transport", name)
			continue
		}
		all = append(all, versions[0])
	}
	slices.SortFunc(all, func(a, b Version) int { return strings.Compare(a.Transport, b.Transport) })
	return all
}

// describe returns what is signed of a target; ok is false if it is no module.
func (l *look) describe(file string) (v Version, ok bool, err error) {
	target, role := l.trust.find(file)
	if target == nil {
		return v, false, errors.New("no role that has it may have it")
	}
	if v.Release, ok, err = release.Parse(file, target.Custom); err != nil || !ok {
		return v, ok, err
	}
	if role != topRole && file != release.Path(v.Transport) {
		return v, true, fmt.Errorf("a delegated role has to name it %s, as names are what it is given", release.Path(v.Transport))
	}
	sum, hashed := target.Hashes["sha256"]
	switch {
	case !hashed || len(sum) != sha256.Size:
		return v, true, errors.New("it has no SHA-256")
	case target.Length < 1 || target.Length > maxModule:
		return v, true, fmt.Errorf("it has %d bytes; a module has between 1 and %d", target.Length, maxModule)
	}
	v.SHA256, v.Length = fmt.Sprintf("%x", []byte(sum)), target.Length
	v.Signers, v.Expires, v.path = l.signers(role), l.trust.expires(), file
	return v, true, nil
}

// signers returns who signed a role.
func (l *look) signers(role string) []string {
	if l.signed == nil {
		l.signed = map[string][]string{}
	}
	if _, known := l.signed[role]; !known {
		l.signed[role] = l.trust.signers(role)
	}
	return l.signed[role]
}

// withdraw notes which transports the repository does not have any more. They go on being
// used: whoever relies on them is not to be cut off by a mistake.
func (l *look) withdraw(offered []Version) {
	for name, m := range l.index.Modules {
		gone := !slices.ContainsFunc(offered, func(v Version) bool { return v.Transport == name })
		if gone && !m.Withdrawn {
			l.Log.Warn("the repository does not have the transport any more; what is here goes on being used", "transport", name)
		}
		m.Withdrawn = gone
	}
}
