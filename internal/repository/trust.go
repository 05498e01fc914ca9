package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"waterproxy/internal/mirror"
	"waterproxy/internal/statedir"
)

// Bounds of metadata, in bytes, where no metadata above says less.
const (
	maxRoot      = 512 << 10
	maxTimestamp = 16 << 10
	maxSnapshot  = 2 << 20
	maxTargets   = 5 << 20
	// maxRotations are new roots in one look, and maxRoles delegated roles.
	maxRotations = 64
	maxRoles     = 64
)

// trust follows a repository's metadata by the workflow of a client (TUF 5). Each piece is
// kept on disk once it is verified, so the next look begins there, whatever ended the
// last.
//
// The steps are done here, and not by go-tuf's Updater, because that has no context to end
// it by, writes without waiting for the disk, and for good refuses to go on from a file
// that a crash has damaged. What is believed is decided by its trusted set alone.
type trust struct {
	dir    string // of metadata that is verified
	set    *trustedmetadata.TrustedMetadata
	log    *slog.Logger
	prefix string // of metadata's paths at the mirror
	named  []byte // the operator's root, until something that it signed has come
	now    time.Time
}

// openTrust begins with the newest root on disk, or, if there is none, with the one that
// the operator has named.
func openTrust(dir string, named []byte, now time.Time, log *slog.Logger) (*trust, error) {
	t := &trust{dir: dir, log: log, now: now}
	first, err := newSet(named)
	if err != nil {
		return nil, fmt.Errorf("the root file: %w", err)
	}
	t.set = first
	kept := t.read(metadata.ROOT)
	if kept != nil {
		set, err := newSet(kept)
		switch {
		case err != nil:
			t.log.Warn("what is kept of the repository's root is damaged; beginning again with the root file", "error", err)
		case first.Root.Signed.Version > set.Root.Signed.Version:
			// The operator's word is newer than what is kept.
			if err := t.forgetNumbers(set.Root, first.Root); err != nil {
				return nil, err
			}
		default:
			if err := t.follows(set, kept, first, named); err != nil {
				return nil, fmt.Errorf("%w: version %d of the root file is not one that %s has followed: %w", ErrOtherRepository, first.Root.Signed.Version, filepath.Dir(dir), err)
			}
			t.set = set
		}
	}
	t.set.RefTime = now
	if t.set == first {
		t.named = named
	}
	return t, nil
}

// keepNamed keeps the root that the operator has named, once it has proved to be the
// repository's: a wrong one is not to keep the right one out.
func (t *trust) keepNamed() error {
	named := t.named
	if named == nil {
		return nil
	}
	t.named = nil
	first, err := newSet(named)
	if err != nil {
		return err
	}
	if err := t.keep(rootName(first.Root.Signed.Version), named); err != nil {
		return err
	}
	return t.keep(metadata.ROOT, named)
}

// ErrOtherRepository means that what is kept is another repository's.
var ErrOtherRepository = errors.New("the state directory has modules of another repository; name another directory, or remove its folder repository")

// follows verifies that the kept root comes from the one that the operator named, by those
// between them, which are kept too.
func (t *trust) follows(set *trustedmetadata.TrustedMetadata, kept []byte, first *trustedmetadata.TrustedMetadata, named []byte) error {
	if bytes.Equal(kept, named) {
		return nil
	}
	version := first.Root.Signed.Version
	if old := t.read(rootName(version)); old != nil && !bytes.Equal(old, named) {
		return errors.New("it is another")
	}
	from, err := newSet(named)
	if err != nil {
		return err
	}
	last := named
	for version++; version <= set.Root.Signed.Version; version++ {
		if last = t.read(rootName(version)); last == nil {
			return fmt.Errorf("version %d is not there", version)
		}
		if _, err := guard(func() (any, error) { return from.UpdateRoot(last) }); err != nil {
			return fmt.Errorf("version %d: %w", version, err)
		}
	}
	if !bytes.Equal(last, kept) {
		return errors.New("another follows it")
	}
	return nil
}

func rootName(version int64) string { return strconv.FormatInt(version, 10) + "." + metadata.ROOT }

// newSet returns a set that trusts a root.
func newSet(root []byte) (*trustedmetadata.TrustedMetadata, error) {
	if err := checkShape(root); err != nil {
		return nil, err
	}
	return guard(func() (*trustedmetadata.TrustedMetadata, error) { return trustedmetadata.New(root) })
}

func (t *trust) path(role string) string { return filepath.Join(t.dir, url.PathEscape(role)+".json") }

// read returns what is kept of a role, nil if it is nothing that could be read.
func (t *trust) read(role string) []byte {
	data, err := statedir.ReadFile(t.path(role), maxTargets)
	if err == nil {
		err = checkShape(data)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			t.log.Warn("what is kept of the repository cannot be read; it is fetched again", "role", role, "error", err)
		}
		return nil
	}
	return data
}

func (t *trust) keep(role string, data []byte) error {
	if err := statedir.WriteFile(t.path(role), data); err != nil {
		return fmt.Errorf("keep %s.json: %w", role, err)
	}
	return nil
}

// keepRoot keeps a root as one of its chain, and as the newest.
func (t *trust) keepRoot(data []byte) error {
	if err := t.keep(rootName(t.set.Root.Signed.Version), data); err != nil {
		return err
	}
	return t.keep(metadata.ROOT, data)
}

// get fetches metadata; version is 0 if its name has none.
func (t *trust) get(ctx context.Context, from mirror.Mirror, role string, version, limit int64) ([]byte, error) {
	name := url.PathEscape(role) + ".json"
	if version > 0 {
		name = strconv.FormatInt(version, 10) + "." + name
	}
	data, err := from.Get(ctx, t.prefix+name, limit)
	if err != nil {
		return nil, err
	}
	if err := checkShape(data); err != nil {
		return nil, fmt.Errorf("%s from %s: %w", name, from, err)
	}
	return data, nil
}

// timestamp fetches the newest timestamp. Publishers have their metadata in the repository's
// folder, or in one named metadata.
func (t *trust) timestamp(ctx context.Context, from mirror.Mirror) (data []byte, err error) {
	data, err = t.get(ctx, from, metadata.TIMESTAMP, 0, maxTimestamp)
	if !errors.Is(err, mirror.ErrNotFound) {
		return data, err
	}
	t.prefix = "metadata/"
	if data, again := t.get(ctx, from, metadata.TIMESTAMP, 0, maxTimestamp); again == nil {
		return data, nil
	}
	return nil, err
}

// refresh verifies everything that a timestamp leads to (TUF 5.3 to 5.6).
func (t *trust) refresh(ctx context.Context, from mirror.Mirror, timestamp []byte) error {
	_, err := guard(func() (struct{}, error) {
		err := t.roots(ctx, from)
		if err == nil {
			err = t.useTimestamp(timestamp)
		}
		if err == nil {
			err = t.snapshot(ctx, from)
		}
		if err == nil {
			err = t.targets(ctx, from, metadata.TARGETS, metadata.ROOT)
		}
		if err == nil {
			err = t.delegations(ctx, from)
		}
		return struct{}{}, err
	})
	return err
}

// roots follows new roots as far as the mirror has them.
func (t *trust) roots(ctx context.Context, from mirror.Mirror) error {
	for range maxRotations {
		next := t.set.Root.Signed.Version + 1
		data, err := t.get(ctx, from, metadata.ROOT, next, maxRoot)
		if errors.Is(err, mirror.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		old := t.set.Root
		if _, err := t.set.UpdateRoot(data); err != nil {
			return fmt.Errorf("version %d of the root from %s is not a successor of version %d: %w", next, from, next-1, err)
		}
		// If this ends before the root is kept, the next look does it again.
		if err := errors.Join(t.keepNamed(), t.forgetNumbers(old, t.set.Root)); err != nil {
			return err
		}
		if err := t.keepRoot(data); err != nil {
			return err
		}
		t.log.Info("the repository has new keys", "root", next)
	}
	return fmt.Errorf("%s has more than %d new roots", from, maxRotations)
}

// forgetNumbers removes the timestamp and the snapshot if a new root has other keys for
// them: whoever had the old ones may have raised the numbers of versions (TUF 5.3.11).
func (t *trust) forgetNumbers(old, new *metadata.Metadata[metadata.RootType]) error {
	if !changed(old, new, metadata.TIMESTAMP) && !changed(old, new, metadata.SNAPSHOT) {
		return nil
	}
	return errors.Join(t.forget(metadata.TIMESTAMP), t.forget(metadata.SNAPSHOT))
}

// changed reports whether a role has other keys than before.
func changed(old, new *metadata.Metadata[metadata.RootType], role string) bool {
	keys := func(root *metadata.Metadata[metadata.RootType]) []string {
		ids := slices.Clone(root.Signed.Roles[role].KeyIDs)
		slices.Sort(ids)
		return ids
	}
	return !slices.Equal(keys(old), keys(new)) || old.Signed.Roles[role].Threshold != new.Signed.Roles[role].Threshold
}

// useTimestamp verifies a timestamp, which must not be older than the one that is kept.
func (t *trust) useTimestamp(data []byte) error {
	if kept := t.read(metadata.TIMESTAMP); kept != nil {
		// If it has expired, its numbers count all the same.
		_, err := t.set.UpdateTimestamp(kept)
		t.logUnfit(metadata.TIMESTAMP, err)
	}
	if t.set.Root.Signed.IsExpired(t.now) {
		return t.expired(metadata.ROOT, t.set.Root.Signed.Expires)
	}
	_, err := t.set.UpdateTimestamp(data)
	if err == nil || errors.Is(err, &metadata.ErrEqualVersionNumber{}) || errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		if err := t.keepNamed(); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, &metadata.ErrEqualVersionNumber{}):
		if t.set.Timestamp.Signed.IsExpired(t.now) {
			return t.expired(metadata.TIMESTAMP, t.set.Timestamp.Signed.Expires)
		}
		return nil
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return t.expired(metadata.TIMESTAMP, t.set.Timestamp.Signed.Expires)
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		return fmt.Errorf("what the mirror has is older than what is known here: timestamp.json: %w", err)
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		return fmt.Errorf("it is another repository's than the root file, or the mirror lacks a newer root, or somebody has changed it: timestamp.json: %w", err)
	case err != nil:
		return fmt.Errorf("timestamp.json: %w", err)
	case t.set.Timestamp.Signed.Meta["snapshot.json"] == nil:
		return errors.New("timestamp.json names no snapshot")
	}
	return t.keep(metadata.TIMESTAMP, data)
}

// logUnfit logs that what is kept cannot be used, unless it is only out of date.
func (t *trust) logUnfit(role string, err error) {
	if err != nil && !errors.Is(err, &metadata.ErrRepository{}) {
		t.log.Warn("what is kept of the repository is damaged; it is fetched again", "role", role, "error", err)
	}
}

// ExpiredError means that nothing newer than metadata that has expired is to be had. What
// is in use goes on being used.
type ExpiredError struct {
	Role    string
	Expired time.Time
	Now     time.Time // as this machine has it
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the repository's %s expired at %s, and this machine's clock is at %s: its publisher has not renewed it, the mirror is stale, or the clock is wrong",
		e.Role, e.Expired.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

func (t *trust) expired(role string, at time.Time) error { return &ExpiredError{role, at, t.now} }

func (t *trust) snapshot(ctx context.Context, from mirror.Mirror) error {
	meta := t.set.Timestamp.Signed.Meta["snapshot.json"]
	if kept := t.read(metadata.SNAPSHOT); kept != nil {
		_, err := t.set.UpdateSnapshot(kept, true)
		if err == nil {
			return nil
		}
		t.logUnfit(metadata.SNAPSHOT, err)
	}
	data, err := t.get(ctx, from, metadata.SNAPSHOT, t.consistent(meta.Version), bound(meta, maxSnapshot))
	if err != nil {
		return err
	}
	if _, err := t.set.UpdateSnapshot(data, false); err != nil {
		if errors.Is(err, &metadata.ErrExpiredMetadata{}) && t.set.Snapshot != nil {
			return t.expired(metadata.SNAPSHOT, t.set.Snapshot.Signed.Expires)
		}
		return fmt.Errorf("snapshot.json: %w", err)
	}
	return t.keep(metadata.SNAPSHOT, data)
}

// consistent returns the version that a file's name has, 0 for none.
func (t *trust) consistent(version int64) int64 {
	if t.set.Root.Signed.ConsistentSnapshot {
		return version
	}
	return 0
}

// bound returns how many bytes a file may have.
func bound(meta *metadata.MetaFiles, most int64) int64 {
	if meta.Length > 0 {
		return min(meta.Length, most)
	}
	return most
}

// expires returns when the first of the metadata expires.
func (t *trust) expires() time.Time {
	first := t.set.Root.Signed.Expires
	for _, at := range []time.Time{t.set.Timestamp.Signed.Expires, t.set.Snapshot.Signed.Expires, t.set.Targets[metadata.TARGETS].Signed.Expires} {
		if at.Before(first) {
			first = at
		}
	}
	return first
}

// forget removes what is kept of a role.
func (t *trust) forget(role string) error {
	if err := os.Remove(t.path(role)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
