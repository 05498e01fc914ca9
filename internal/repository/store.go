// Package repository is a user's side of a repository of modules: it follows one by The
// Update Framework (TUF), and keeps the modules that it has verified.
package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"waterproxy/internal/release"
	"waterproxy/internal/statedir"
	"waterproxy/internal/userfile"
)

// Store is what is kept of a repository, in a private directory. Several processes may use
// it at once.
//
// It has the files
//
//	metadata/    what is verified of the repository's metadata
//	modules/     modules that are verified, by their SHA-256
//	partial/     those that are on their way
//	modules.json the versions of each transport that are here
//	look.json    when the repository was last looked at
//	offered.json what the repository had when it was last looked at
//	lock         which a process that changes modules.json holds
//	looking      which one that looks at the repository holds; it alone changes all else
type Store struct{ dir string }

// New returns the store in a state directory. It does no I/O.
func New(stateDir string) *Store { return &Store{filepath.Join(stateDir, "repository")} }

// Version is a version of a transport's module that has been verified.
type Version struct {
	release.Release
	SHA256 string `json:"sha256"` // in hexadecimal
	Length int64  `json:"length"`
	// Signers are the beginnings of the IDs of the keys that signed it.
	Signers []string `json:"signers"`
	// Expires is until when its repository vouches for it.
	Expires time.Time `json:"expires"`

	path string // in its repository
}

// Module is what is here of a transport.
type Module struct {
	// Current is the version that has worked; nil before one has.
	Current *Version `json:"current,omitempty"`
	// Next is a version that has not been tried. If it works it becomes the current one.
	Next *Version `json:"next,omitempty"`
	// Kept are versions that were current, the last first.
	Kept []Version `json:"kept,omitempty"`
	// Pinned means that newer versions do not take Current's place.
	Pinned bool `json:"pinned,omitempty"`
	// Refused is the last version that did not work, with why. Its file stays.
	Refused *Refusal `json:"refused,omitempty"`
	// Withdrawn means that the repository does not have the transport any more.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Refusal is why a version is not used.
type Refusal struct {
	Version string    `json:"version"`
	SHA256  string    `json:"sha256"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// keptVersions is how many versions that were current are kept.
const keptVersions = 2

// Look is what look.json has.
type Look struct {
	// Checked is when the repository was last followed to the end, and Rooted when it was
	// last asked for new keys.
	Checked time.Time `json:"checked"`
	Rooted  time.Time `json:"rooted"`
	// Timestamp is the SHA-256 of the metadata that has been followed to the end.
	Timestamp string `json:"timestamp,omitempty"`
	// Expires is when the first of the metadata expires.
	Expires time.Time `json:"expires"`
}

// Index is what modules.json has: by transport name, what is here of each.
type Index struct {
	Modules map[string]*Module `json:"modules"`
}

// maxJSON bounds each of the files here, in bytes: a few times what metadata may have, since
// versions are kept.
const maxJSON = 64 << 20

func newIndex() *Index { return &Index{Modules: map[string]*Module{}} }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// IndexFile returns the file that changes whenever another version is to be used.
func (s *Store) IndexFile() string { return s.path("modules.json") }

// Dir returns the directory.
func (s *Store) Dir() string { return s.dir }

// Index reads what is here. Without a directory it is nothing. One that is damaged is an
// error.
func (s *Store) Index() (*Index, error) {
	i := &Index{}
	err := s.readJSON("modules.json", i)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if i.Modules == nil {
		i.Modules = map[string]*Module{}
	}
	for name, m := range i.Modules {
		if m == nil {
			return i, fmt.Errorf("%s is damaged: nothing is known of %s", s.IndexFile(), name)
		}
		for _, v := range m.Versions() {
			if v.Transport != name || !isSum(v.SHA256) {
				return i, fmt.Errorf("%s is damaged: what is known of %s", s.IndexFile(), name)
			}
		}
	}
	return i, err
}

// isSum reports whether text is a SHA-256 in hexadecimal, and so the name of a file.
func isSum(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}

// Look reads when the repository was last looked at, and what followed.
func (s *Store) Look() (l Look, err error) {
	err = s.readJSON("look.json", &l)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return l, err
}

// Offered reads what the repository offered when it was last looked at, sorted by name.
func (s *Store) Offered() ([]Version, error) {
	var all []Version
	err := s.readJSON("offered.json", &all)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

func (s *Store) readJSON(name string, v any) error {
	text, err := statedir.ReadFile(s.path(name), maxJSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", s.path(name), err)
	}
	return nil
}

// writeJSON writes a file, unless that is what it has.
func (s *Store) writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if old, err := statedir.ReadFile(s.path(name), maxJSON); err == nil && bytes.Equal(old, append(text, '\n')) {
		return nil
	}
	return statedir.WriteFile(s.path(name), append(text, '\n'))
}

// Best returns which version of a transport is to be used: the next one, or else the
// current one, and nil if there is none.
func (i *Index) Best(name string) *Version {
	m := i.Modules[name]
	switch {
	case m == nil:
		return nil
	case m.Next != nil && (!m.Pinned || m.Current == nil):
		return m.Next
	}
	return m.Current
}

// ModuleFile returns the file of a version's module.
func (s *Store) ModuleFile(v *Version) string { return s.path("modules", v.SHA256+".wasm") }

// Load returns a version's module. What it returns has the length and the hash that were
// signed, whatever has become of the file.
func (s *Store) Load(v *Version) ([]byte, error) {
	wasm, err := userfile.Read(s.ModuleFile(v), userfile.MaxModule)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	if sum := sha256.Sum256(wasm); fmt.Sprintf("%x", sum) != v.SHA256 || int64(len(wasm)) != v.Length {
		return nil, fmt.Errorf("the file %s is not the module %s %s that its repository has signed; look for news to fetch it again", s.ModuleFile(v), v.Transport, v.Version)
	}
	return wasm, nil
}

// Has reports whether a version's module is here, as it was signed.
func (s *Store) Has(v *Version) bool {
	_, err := s.Load(v)
	return err == nil
}

// lockPause is how often a process asks for the lock that another one holds.
const lockPause = 50 * time.Millisecond

// The locks of a store. A look waits for mirrors, and whoever changes the index must not
// wait for those: a transport starts with it.
const (
	indexLock = "lock"
	lookLock  = "looking"
)

// lock waits until no other process has a lock. It makes the directory.
func (s *Store) lock(ctx context.Context, name string) (unlock func() error, err error) {
	for _, dir := range []string{s.dir, s.path("metadata"), s.path("modules"), s.path("partial")} {
		if err := statedir.MakePrivate(dir); err != nil {
			return nil, err
		}
	}
	l := flock.New(s.path(name), flock.SetPermissions(0o600))
	if ok, err := l.TryLock(); err != nil {
		return nil, err
	} else if ok {
		return l.Unlock, nil
	}
	if _, err := l.TryLockContext(ctx, lockPause); err != nil {
		return nil, fmt.Errorf("another process is changing %s: %w", s.dir, err)
	}
	return l.Unlock, nil
}

// change reads the index, lets f change it, and writes it if f has no error. Files that are
// of no use then are removed by the next look.
func (s *Store) change(ctx context.Context, f func(*Index) error) (err error) {
	unlock, err := s.lock(ctx, indexLock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	i, err := s.Index()
	if err != nil {
		return err
	}
	if err := f(i); err != nil {
		return err
	}
	return s.writeJSON("modules.json", i)
}

// Accept makes the next version of a transport the current one, if it is this one: it has
// been tried, and works.
func (s *Store) Accept(ctx context.Context, v *Version) error {
	if !s.isNext(v) {
		return nil
	}
	return s.change(ctx, func(i *Index) error {
		m := i.Modules[v.Transport]
		if m == nil || m.Next == nil || m.Next.SHA256 != v.SHA256 {
			return nil
		}
		m.keep(m.Current, v.SHA256)
		m.Current, m.Next, m.Refused = m.Next, nil, nil
		return nil
	})
}

// isNext reports whether a version waits for a trial. A version that does not needs no
// lock.
func (s *Store) isNext(v *Version) bool {
	i, err := s.Index()
	m := i.Modules[v.Transport]
	return err != nil || m != nil && m.Next != nil && m.Next.SHA256 == v.SHA256
}

// keep adds a version to those that are kept, unless it has the SHA-256 of the one that
// takes its place.
func (m *Module) keep(old *Version, successor string) {
	m.Kept = slices.DeleteFunc(m.Kept, func(k Version) bool { return k.SHA256 == successor || old != nil && k.SHA256 == old.SHA256 })
	if old != nil && old.SHA256 != successor {
		m.Kept = slices.Insert(m.Kept, 0, *old)
	}
	m.Kept = m.Kept[:min(len(m.Kept), keptVersions)]
}

// Refuse notes that the next version of a transport does not work, if it is this one.
func (s *Store) Refuse(ctx context.Context, v *Version, reason error) error {
	if !s.isNext(v) {
		return nil
	}
	return s.change(ctx, func(i *Index) error {
		m := i.Modules[v.Transport]
		if m == nil || m.Next == nil || m.Next.SHA256 != v.SHA256 {
			return nil
		}
		const most = 500
		text := reason.Error()
		m.Refused = &Refusal{v.Version, v.SHA256, text[:min(len(text), most)], time.Now().UTC().Truncate(time.Second)}
		m.Next = nil
		return nil
	})
}

// ErrNoVersion means that there is no version to go back to.
var ErrNoVersion = errors.New("no such version is kept")

// Rollback makes a kept version of a transport the current one, and pins it. version ""
// is the last that was current.
func (s *Store) Rollback(ctx context.Context, name, version string) (to Version, err error) {
	err = s.change(ctx, func(i *Index) error {
		m := i.Modules[name]
		if m == nil {
			return fmt.Errorf("%w: there is no transport %s from a repository in %s", ErrNoVersion, name, s.dir)
		}
		if m.Pinned && version == "" {
			return fmt.Errorf("%s has been rolled back already; name one of its versions by -to: %s", name, m.versions())
		}
		at := slices.IndexFunc(m.Kept, func(v Version) bool { return version == "" || v.Version == version })
		if at < 0 {
			return fmt.Errorf("%w: of %s there are %s", ErrNoVersion, name, m.versions())
		}
		to = m.Kept[at]
		if !s.Has(&to) {
			return fmt.Errorf("the module of %s %s is damaged", name, to.Version)
		}
		old := m.Current
		m.Current, m.Pinned, m.Next = &to, true, nil
		m.keep(old, to.SHA256)
		return nil
	})
	return to, err
}

// versions lists what is here of a transport, for an error.
func (m *Module) versions() string {
	text := "none"
	if m.Current != nil {
		text = m.Current.Version + " (current)"
	}
	for _, v := range m.Kept {
		text += ", " + v.Version
	}
	return text
}

// Unpin lets newer versions of a transport take the place of the current one again, from
// the next look on.
func (s *Store) Unpin(ctx context.Context, name string) error {
	return s.change(ctx, func(i *Index) error {
		m := i.Modules[name]
		if m == nil || !m.Pinned {
			return fmt.Errorf("%s is not pinned", name)
		}
		m.Pinned = false
		return nil
	})
}

// prune removes the files of modules that are not in the index. Both locks are held: a look
// has modules that are not in the index yet.
func (s *Store) prune(i *Index) error {
	used := map[string]bool{}
	for _, m := range i.Modules {
		for _, v := range m.Versions() {
			used[v.SHA256+".wasm"] = true
		}
		if m.Refused != nil {
			used[m.Refused.SHA256+".wasm"] = true
		}
	}
	return s.clear("modules", used)
}

// prunePartial removes the beginnings of modules that the repository does not offer any
// more.
func (s *Store) prunePartial(offered []Version) error {
	used := map[string]bool{}
	for _, v := range offered {
		used[v.SHA256] = true
	}
	return s.clear("partial", used)
}

// clear removes the files of a folder that are not used.
func (s *Store) clear(folder string, used map[string]bool) error {
	entries, err := os.ReadDir(s.path(folder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !used[e.Name()] {
			err = errors.Join(err, os.RemoveAll(s.path(folder, e.Name())))
		}
	}
	return err
}

// Versions returns what is here of a transport, the current version first.
func (m *Module) Versions() []*Version {
	var all []*Version
	for _, v := range []*Version{m.Current, m.Next} {
		if v != nil {
			all = append(all, v)
		}
	}
	for k := range m.Kept {
		all = append(all, &m.Kept[k])
	}
	return all
}

// Names returns the transports of which a version is here, sorted.
func (i *Index) Names() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(i.Modules)) {
		if i.Best(name) != nil {
			names = append(names, name)
		}
	}
	return names
}
