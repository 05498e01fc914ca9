package repository_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// day0 is when the repositories of the tests are made.
var day0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	day     = 24 * time.Hour
	believe = 30 * day
)

// key is a key that signs metadata. The same name gives the same key.
type key struct {
	id     string
	public *metadata.Key
	signer signature.Signer
}

func newKey(t testing.TB, name string) *key {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	private := ed25519.NewKeyFromSeed(seed[:])
	signer, err := signature.LoadED25519Signer(private)
	k := &key{signer: signer}
	if err == nil {
		k.public, err = metadata.KeyFromPublicKey(private.Public())
	}
	if err == nil {
		k.id, err = k.public.ID()
	}
	must(t, err)
	return k
}

func newKeys(t testing.TB, names ...string) (keys []*key) {
	for _, name := range names {
		keys = append(keys, newKey(t, name))
	}
	return keys
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// repo is a repository that go-tuf's own types make, with nothing of package publish. What
// it signs, and with which keys, a test may change at will.
type repo struct {
	t         testing.TB
	keys      map[string][]*key // that sign each role
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
	delegated map[string]*metadata.Metadata[metadata.TargetsType]
	files     files
}

// newRepo returns a repository whose root and targets take two keys, and whose
// timestamp and snapshot take one. It has version 1 of obfs4 and of plain.
func newRepo(t testing.TB) *repo {
	t.Helper()
	until := day0.Add(believe)
	r := &repo{
		t: t,
		keys: map[string][]*key{
			metadata.ROOT:      newKeys(t, "root1", "root2"),
			metadata.TARGETS:   newKeys(t, "targets1", "targets2"),
			metadata.SNAPSHOT:  newKeys(t, "snapshot"),
			metadata.TIMESTAMP: newKeys(t, "timestamp"),
		},
		root:      metadata.Root(day0.Add(365 * day)),
		timestamp: metadata.Timestamp(until),
		snapshot:  metadata.Snapshot(until),
		targets:   metadata.Targets(until),
		delegated: map[string]*metadata.Metadata[metadata.TargetsType]{},
		files:     files{},
	}
	r.targets.Signed.Version, r.snapshot.Signed.Version, r.timestamp.Signed.Version = 0, 0, 0
	r.setKeys(2)
	r.writeRoot(r.keys[metadata.ROOT])
	r.add("obfs4", "1")
	r.add("plain", "1")
	r.publish()
	return r
}

// setKeys gives the root the keys of the repository; root and targets take so many of them.
func (r *repo) setKeys(threshold int) {
	r.t.Helper()
	r.root.Signed.Keys = map[string]*metadata.Key{}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		r.root.Signed.Roles[role] = &metadata.Role{Threshold: min(threshold, len(r.keys[role]))}
		for _, k := range r.keys[role] {
			must(r.t, r.root.Signed.AddKey(k.public, role))
		}
	}
}

// rotate makes the next root, with other keys for some roles. It is signed by the old keys
// and the new ones.
func (r *repo) rotate(change map[string][]*key) {
	r.t.Helper()
	signers := slices.Clone(r.keys[metadata.ROOT])
	for role, keys := range change {
		r.keys[role] = keys
	}
	for _, k := range r.keys[metadata.ROOT] {
		if !slices.ContainsFunc(signers, func(s *key) bool { return s.id == k.id }) {
			signers = append(signers, k)
		}
	}
	r.setKeys(2)
	r.root.Signed.Version++
	r.writeRoot(signers)
}

func (r *repo) writeRoot(signers []*key) {
	r.t.Helper()
	r.put("root", r.root.Signed.Version, signed(r.t, r.root, signers))
}

// put gives mirrors a version of a role, 0 for a name without a number.
func (r *repo) put(role string, version int64, data []byte) {
	r.files[fileOf(role, version)] = data
}

func fileOf(role string, version int64) string {
	if version == 0 {
		return role + ".json"
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}

// signed returns metadata with the signatures of keys, and no others.
func signed[T metadata.Roles](t testing.TB, m *metadata.Metadata[T], keys []*key) []byte {
	t.Helper()
	m.ClearSignatures()
	for _, k := range keys {
		_, err := m.Sign(k.signer)
		must(t, err)
	}
	return bytesOf(t, m)
}

func bytesOf[T metadata.Roles](t testing.TB, m *metadata.Metadata[T]) []byte {
	t.Helper()
	data, err := m.ToBytes(false)
	must(t, err)
	return data
}

// content is the module of a transport's version.
func content(transport, version string) string { return "module of " + transport + " " + version }

// add puts a version of a transport into the targets.
func (r *repo) add(transport, version string) *metadata.TargetFiles {
	return r.addFile(transport+".wasm", fmt.Sprintf(`{"transport":%q,"version":%q,"needs":{}}`, transport, version), content(transport, version))
}

// addFile puts a file into the targets; custom "" is none.
func (r *repo) addFile(file, custom, text string) *metadata.TargetFiles {
	r.t.Helper()
	target := r.target(file, custom, text)
	r.targets.Signed.Targets[file] = target
	return target
}

func (r *repo) target(file, custom, text string) *metadata.TargetFiles {
	r.t.Helper()
	target, err := metadata.TargetFile().FromBytes(file, []byte(text))
	must(r.t, err)
	if custom != "" {
		raw := json.RawMessage(custom)
		target.Custom = &raw
	}
	r.files[targetFile(file, text)] = []byte(text)
	return target
}

// targetFile is where mirrors have a target.
func targetFile(file, text string) string {
	dir, base := filepath.Split(file)
	return fmt.Sprintf("targets/%s%x.%s", dir, sha256.Sum256([]byte(text)), base)
}

// delegate gives a role of others some paths.
func (r *repo) delegate(name string, keys []*key, paths ...string) *metadata.Metadata[metadata.TargetsType] {
	r.t.Helper()
	d := r.targets.Signed.Delegations
	if d == nil {
		d = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
		r.targets.Signed.Delegations = d
	}
	role := metadata.DelegatedRole{Name: name, Threshold: len(keys), Paths: paths}
	for _, k := range keys {
		d.Keys[k.id] = k.public
		role.KeyIDs = append(role.KeyIDs, k.id)
	}
	d.Roles = append(d.Roles, role)
	r.keys["delegated/"+name] = keys
	r.delegated[name] = metadata.Targets(day0.Add(believe))
	return r.delegated[name]
}

// publish signs the next version of everything but the root.
func (r *repo) publish() {
	r.t.Helper()
	r.targets.Signed.Version++
	r.snapshot.Signed.Version++
	r.timestamp.Signed.Version++
	r.write()
}

// write signs everything but the root, with the numbers that it has.
func (r *repo) write() {
	r.t.Helper()
	r.put("targets", r.targets.Signed.Version, signed(r.t, r.targets, r.keys[metadata.TARGETS]))
	r.snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(r.targets.Signed.Version)
	for name, d := range r.delegated {
		r.put(name, d.Signed.Version, signed(r.t, d, r.keys["delegated/"+name]))
		r.snapshot.Signed.Meta[name+".json"] = metadata.MetaFile(d.Signed.Version)
	}
	r.writeSnapshot()
}

// writeSnapshot signs the snapshot, and the timestamp that names it.
func (r *repo) writeSnapshot() {
	r.t.Helper()
	r.put("snapshot", r.snapshot.Signed.Version, signed(r.t, r.snapshot, r.keys[metadata.SNAPSHOT]))
	r.timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.snapshot.Signed.Version)
	r.writeTimestamp()
}

func (r *repo) writeTimestamp() {
	r.t.Helper()
	r.put("timestamp", 0, signed(r.t, r.timestamp, r.keys[metadata.TIMESTAMP]))
}

// renew is publish for a later time.
func (r *repo) renew(now time.Time) {
	r.t.Helper()
	until := now.Add(believe)
	r.targets.Signed.Expires, r.snapshot.Signed.Expires, r.timestamp.Signed.Expires = until, until, until
	r.publish()
}

// fork returns the repository as somebody else goes on with it.
func (r *repo) fork() *repo {
	r.t.Helper()
	f := &repo{t: r.t, keys: maps.Clone(r.keys), files: maps.Clone(r.files), delegated: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	f.root, f.timestamp, f.snapshot, f.targets = copyOf(r.t, r.root), copyOf(r.t, r.timestamp), copyOf(r.t, r.snapshot), copyOf(r.t, r.targets)
	for name, d := range r.delegated {
		f.delegated[name] = copyOf(r.t, d)
	}
	return f
}

func copyOf[T metadata.Roles](t testing.TB, m *metadata.Metadata[T]) *metadata.Metadata[T] {
	t.Helper()
	c, err := new(metadata.Metadata[T]).FromBytes(bytesOf(t, m))
	must(t, err)
	return c
}

// save writes what mirrors have into a folder.
func (r *repo) save(dir string) {
	r.t.Helper()
	for name, data := range r.files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		must(r.t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(r.t, os.WriteFile(file, data, 0o644))
	}
}
