// Package publish is a publisher's side of a repository of modules: static files by The
// Update Framework (TUF), which any web server, object store or directory can serve.
//
// What is to be published is staged first, in the folder staged of the repository, and
// signed there by as many keys as it takes, on one machine or on several. Times are those
// of staging, so the same input and the same keys give the same bytes.
package publish

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/release"
	"waterproxy/internal/userfile"
)

// Repository is a folder that web servers serve. One process at a time may change it.
type Repository struct{ dir string }

// Open returns the repository in a folder. It does no I/O.
func Open(dir string) *Repository { return &Repository{dir} }

const (
	stagedDir   = "staged"
	targetsDir  = "targets"
	maxMetadata = 16 << 20
)

func (r *Repository) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// metadataOf are the four roles of a repository (TUF 4.3 to 4.6); nil for what is not
// there.
type metadataOf struct {
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
}

// read reads the roles in a folder.
func read(dir string) (m metadataOf, err error) {
	return m, errors.Join(
		load(dir, metadata.ROOT, &m.root), load(dir, metadata.TARGETS, &m.targets),
		load(dir, metadata.SNAPSHOT, &m.snapshot), load(dir, metadata.TIMESTAMP, &m.timestamp))
}

func load[T metadata.Roles](dir, role string, into **metadata.Metadata[T]) error {
	file := filepath.Join(dir, role+".json")
	text, err := readFile(file, maxMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := new(metadata.Metadata[T]).FromBytes(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	*into = m
	return nil
}

// published reads what is published: the newest root, and what the timestamp leads to.
func (r *Repository) published() (m metadataOf, err error) {
	if err := load(r.dir, metadata.ROOT, &m.root); err != nil {
		return m, err
	}
	if m.root == nil {
		return m, fmt.Errorf("%s has no root.json: `waterproxy publish init` makes a repository", r.dir)
	}
	if err := load(r.dir, metadata.TIMESTAMP, &m.timestamp); err != nil || m.timestamp == nil {
		return m, err
	}
	version := m.timestamp.Signed.Meta["snapshot.json"].Version
	if err := load(r.dir, versioned(version, metadata.SNAPSHOT), &m.snapshot); err != nil || m.snapshot == nil {
		return m, err
	}
	version = m.snapshot.Signed.Meta["targets.json"].Version
	return m, load(r.dir, versioned(version, metadata.TARGETS), &m.targets)
}

func versioned(version int64, role string) string { return strconv.FormatInt(version, 10) + "." + role }

// stage writes metadata into the folder of what is staged.
func (r *Repository) stage(m metadataOf) error {
	if err := os.MkdirAll(r.path(stagedDir), 0o755); err != nil {
		return err
	}
	return errors.Join(
		save(r.path(stagedDir, "root.json"), m.root), save(r.path(stagedDir, "targets.json"), m.targets),
		save(r.path(stagedDir, "snapshot.json"), m.snapshot), save(r.path(stagedDir, "timestamp.json"), m.timestamp))
}

// save writes metadata, if there is any, in one form.
func save[T metadata.Roles](file string, m *metadata.Metadata[T]) error {
	if m == nil {
		return nil
	}
	slices.SortFunc(m.Signatures, func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	text, err := m.ToBytes(false)
	if err != nil {
		return err
	}
	return writeFile(file, append(text, '\n'))
}

// InitOptions are what a new repository has.
type InitOptions struct {
	// Threshold is how many of the keys have to sign.
	Threshold int
	// Keys sign it at once, and Public are the files of keys that sign it later.
	Keys   []*Key
	Public []string
	// Now is the time, and the rest how long clients believe it.
	Now              time.Time
	RootFor, Believe time.Duration
}

// CheckNew returns an error if there is a repository already.
func (r *Repository) CheckNew() error {
	for _, there := range []string{"root.json", stagedDir, "timestamp.json"} {
		if _, err := os.Lstat(r.path(there)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("there is a repository in %s already", r.dir), err)
		}
	}
	return nil
}

// Init makes an empty repository. It is published once Threshold keys have signed it.
func (r *Repository) Init(o InitOptions) error {
	if err := r.CheckNew(); err != nil {
		return err
	}
	root := metadata.Root(o.Now.Add(o.RootFor))
	var keys []*metadata.Key
	for _, k := range o.Keys {
		keys = append(keys, k.public)
	}
	for _, file := range o.Public {
		k, err := readPublic(file)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	if err := setKeys(root, keys, o.Threshold); err != nil {
		return err
	}
	until := o.Now.Add(o.Believe)
	return r.stage(metadataOf{root, metadata.Targets(until), metadata.Snapshot(until), metadata.Timestamp(until)})
}

// setKeys gives all roles the same keys. Whoever may say what a module is has to be able
// to say that there is a new one at once, and no machine has to be online for it.
func setKeys(root *metadata.Metadata[metadata.RootType], keys []*metadata.Key, threshold int) error {
	root.Signed.Keys = map[string]*metadata.Key{}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		root.Signed.Roles[role] = &metadata.Role{KeyIDs: []string{}, Threshold: threshold}
		for _, k := range keys {
			if err := root.Signed.AddKey(k, role); err != nil {
				return err
			}
		}
		slices.Sort(root.Signed.Roles[role].KeyIDs)
	}
	if n := len(root.Signed.Keys); threshold < 1 || threshold > n {
		return fmt.Errorf("a threshold of %d is not between 1 and the number of keys, %d", threshold, n)
	}
	return nil
}

// next returns the roles that follow what is published: what is staged already, or else
// the next versions. They have no signatures.
func (r *Repository) next(now time.Time, believe time.Duration) (m metadataOf, err error) {
	if m, err = read(r.path(stagedDir)); err != nil {
		return m, err
	}
	last, err := r.published()
	if err != nil && (last.root != nil || m.root == nil) { // a new repository has a staged root alone
		return m, err
	}
	if last.targets == nil || last.snapshot == nil || last.timestamp == nil {
		if m.targets == nil {
			return m, fmt.Errorf("%s has not all of its metadata", r.dir)
		}
		last = metadataOf{root: last.root, targets: metadata.Targets(), snapshot: metadata.Snapshot(), timestamp: metadata.Timestamp()}
		last.targets.Signed.Version, last.snapshot.Signed.Version, last.timestamp.Signed.Version = 0, 0, 0
	}
	if m.targets == nil {
		m.targets = last.targets
	}
	until := now.Add(believe)
	version := last.targets.Signed.Version + 1
	if m.targets == last.targets {
		m.targets.Signed.Version = version
	}
	m.targets.Signed.Expires = until
	m.targets.ClearSignatures()
	m.snapshot, m.timestamp = metadata.Snapshot(until), metadata.Timestamp(until)
	m.snapshot.Signed.Version = last.snapshot.Signed.Version + 1
	m.snapshot.Signed.Meta["targets.json"].Version = m.targets.Signed.Version
	m.timestamp.Signed.Version = last.timestamp.Signed.Version + 1
	m.timestamp.Signed.Meta["snapshot.json"].Version = m.snapshot.Signed.Version
	return m, nil
}

// Add stages a version of a transport. Clients believe it for so long.
func (r *Repository) Add(rel release.Release, wasm []byte, now time.Time, believe time.Duration) error {
	if rel.Version == "" {
		return errors.New("a version is needed")
	}
	if err := rel.Check(); err != nil {
		return err
	}
	if len(wasm) == 0 || len(wasm) > userfile.MaxModule {
		return fmt.Errorf("a module has between 1 and %d bytes; this has %d", userfile.MaxModule, len(wasm))
	}
	m, err := r.next(now, believe)
	if err != nil {
		return err
	}
	file := release.Path(rel.Transport)
	target, err := metadata.TargetFile().FromBytes(file, wasm)
	if err != nil {
		return err
	}
	if old := m.targets.Signed.Targets[file]; old != nil {
		before, _, err := release.Parse(file, old.Custom)
		if err == nil && before.Version == rel.Version && !old.Equal(*target) {
			return fmt.Errorf("%s has a version %s already, which is another module; give this one another version", rel.Transport, rel.Version)
		}
	}
	if target.Custom, err = rel.Custom(); err != nil {
		return err
	}
	m.targets.Signed.Targets[file] = target
	if err := writeFile(r.path(stagedDir, targetsDir, hashed(wasm, file)), wasm); err != nil {
		return err
	}
	return r.stage(m)
}

func hashed(wasm []byte, file string) string { return fmt.Sprintf("%x.%s", sha256.Sum256(wasm), file) }

// Remove stages a repository without a transport. Those who have it go on using it.
func (r *Repository) Remove(transport string, now time.Time, believe time.Duration) error {
	m, err := r.next(now, believe)
	if err != nil {
		return err
	}
	file := release.Path(transport)
	if m.targets.Signed.Targets[file] == nil {
		return fmt.Errorf("the repository has no transport %s", transport)
	}
	delete(m.targets.Signed.Targets, file)
	return r.stage(m)
}

// Renew stages the same modules, which clients then believe for longer. It is an error if
// something else is staged, which would be published with them.
func (r *Repository) Renew(now time.Time, believe time.Duration) error {
	if _, err := r.staged(); !errors.Is(err, ErrNothingStaged) {
		return errors.Join(errors.New("something is staged already; sign that, or discard it by `waterproxy publish discard`"), err)
	}
	m, err := r.next(now, believe)
	if err != nil {
		return err
	}
	return r.stage(m)
}

// Discard removes what is staged.
func (r *Repository) Discard() error {
	if _, err := r.staged(); err != nil {
		return err
	}
	return os.RemoveAll(r.path(stagedDir))
}

// Rotation is a change of keys.
type Rotation struct {
	Add       []string // files of keys
	Remove    []string // IDs of keys, or the beginnings of IDs
	Threshold int      // 0 leaves it
	Now       time.Time
	// RootFor is how long the new keys are believed, and Believe all else.
	RootFor, Believe time.Duration
}

// Rotate stages a new root, which enough of the old keys and enough of the new ones have
// to sign, and everything else for the new keys.
func (r *Repository) Rotate(o Rotation) error {
	m, err := r.next(o.Now, o.Believe)
	if err != nil {
		return err
	}
	last, err := r.published()
	if err != nil {
		return err
	}
	root := last.root
	version := root.Signed.Version + 1
	if m.root != nil { // a rotation that is staged goes on
		root = m.root
	}
	keys := root.Signed.Keys
	for _, id := range o.Remove {
		found, err := findKey(keys, id)
		if err != nil {
			return err
		}
		delete(keys, found)
	}
	var all []*metadata.Key
	for _, k := range keys {
		all = append(all, k)
	}
	for _, file := range o.Add {
		k, err := readPublic(file)
		if err != nil {
			return err
		}
		all = append(all, k)
	}
	threshold := o.Threshold
	if threshold == 0 {
		threshold = root.Signed.Roles[metadata.ROOT].Threshold
	}
	if err := setKeys(root, all, threshold); err != nil {
		return err
	}
	root.Signed.Version = version
	root.Signed.Expires = o.Now.Add(o.RootFor)
	root.ClearSignatures()
	m.root = root
	return r.stage(m)
}

// findKey returns the ID that begins so.
func findKey(keys map[string]*metadata.Key, start string) (found string, err error) {
	for id := range keys {
		if !strings.HasPrefix(id, start) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("the IDs of several keys begin with %s", start)
		}
		found = id
	}
	if found == "" {
		return "", fmt.Errorf("the repository has no key %s", start)
	}
	return found, nil
}
