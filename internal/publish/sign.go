package publish

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/userfile"
)

// ErrNothingStaged means that there is nothing to sign.
var ErrNothingStaged = errors.New("nothing is staged; `waterproxy publish add` stages a module")

// Sign signs what is staged with keys, and publishes it once enough keys have. missing says
// what it still takes, one line for each thing; nothing means that it is published.
func (r *Repository) Sign(keys []*Key) (missing []string, err error) {
	s, err := r.staged()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		n, err := s.sign(k)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("the key %s is not one of the repository's", short(k.ID))
		}
	}
	if err := r.stage(s.metadataOf); err != nil {
		return nil, err
	}
	if missing := s.missing(); len(missing) > 0 {
		return missing, nil
	}
	return nil, r.publish(s)
}

// staging is what is staged, with the roots by which it has to be signed.
type staging struct {
	metadataOf
	old *metadata.Metadata[metadata.RootType] // that is published; nil before the first
}

func (r *Repository) staged() (s staging, err error) {
	if s.metadataOf, err = read(r.path(stagedDir)); err != nil {
		return s, err
	}
	if err := load(r.dir, metadata.ROOT, &s.old); err != nil {
		return s, err
	}
	switch {
	case s.targets == nil || s.snapshot == nil || s.timestamp == nil:
		return s, ErrNothingStaged
	case s.root == nil && s.old == nil:
		return s, fmt.Errorf("%s has no root.json", r.dir)
	}
	return s, nil
}

// trusted returns the root whose keys sign all other roles.
func (s *staging) trusted() *metadata.Metadata[metadata.RootType] {
	if s.root != nil {
		return s.root
	}
	return s.old
}

// sign signs with a key the roles that are the key's, and returns how many.
func (s *staging) sign(k *Key) (n int, err error) {
	has := func(root *metadata.Metadata[metadata.RootType], role string) bool {
		return root != nil && slices.Contains(root.Signed.Roles[role].KeyIDs, k.ID)
	}
	add := func(role string, may bool, sign func() error) {
		if may && err == nil {
			n, err = n+1, sign()
		}
	}
	if s.root != nil {
		add(metadata.ROOT, has(s.old, metadata.ROOT) || has(s.root, metadata.ROOT), func() error { return signRole(s.root, k) })
	}
	add(metadata.TARGETS, has(s.trusted(), metadata.TARGETS), func() error { return signRole(s.targets, k) })
	add(metadata.SNAPSHOT, has(s.trusted(), metadata.SNAPSHOT), func() error { return signRole(s.snapshot, k) })
	add(metadata.TIMESTAMP, has(s.trusted(), metadata.TIMESTAMP), func() error { return signRole(s.timestamp, k) })
	return n, err
}

func signRole[T metadata.Roles](m *metadata.Metadata[T], k *Key) error {
	m.Signatures = slices.DeleteFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == k.ID })
	_, err := m.Sign(k.signer)
	return err
}

// missing says which roles lack signatures, and whose could be added.
func (s *staging) missing() (lines []string) {
	check := func(what string, by *metadata.Metadata[metadata.RootType], role string, m any, signed []metadata.Signature) {
		if by.VerifyDelegate(role, m) == nil {
			return
		}
		var left []string
		for _, id := range by.Signed.Roles[role].KeyIDs {
			if !slices.ContainsFunc(signed, func(s metadata.Signature) bool { return s.KeyID == id }) {
				left = append(left, short(id))
			}
		}
		have := len(by.Signed.Roles[role].KeyIDs) - len(left)
		lines = append(lines, fmt.Sprintf("%s has %d of %d signatures; these keys have not signed it: %v", what, have, by.Signed.Roles[role].Threshold, left))
	}
	if s.root != nil && s.old != nil {
		check("the new root, by the old keys,", s.old, metadata.ROOT, s.root, s.root.Signatures)
	}
	if s.root != nil {
		check("the new root, by its own keys,", s.root, metadata.ROOT, s.root, s.root.Signatures)
	}
	check("targets", s.trusted(), metadata.TARGETS, s.targets, s.targets.Signatures)
	check("snapshot", s.trusted(), metadata.SNAPSHOT, s.snapshot, s.snapshot.Signatures)
	check("timestamp", s.trusted(), metadata.TIMESTAMP, s.timestamp, s.timestamp.Signatures)
	return lines
}

// publish copies what is signed to where it is served. The timestamp, which leads to all of
// it, comes last: whoever reads before sees what was there, and after an end in between it
// can be done again.
func (r *Repository) publish(s staging) error {
	modules, err := os.ReadDir(r.path(stagedDir, targetsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	wanted := map[string]bool{}
	for file, target := range s.targets.Signed.Targets {
		wanted[fmt.Sprintf("%x.%s", []byte(target.Hashes["sha256"]), file)] = true
	}
	for _, m := range modules {
		if !wanted[m.Name()] {
			continue // staged again since, with other bytes
		}
		wasm, err := readFile(r.path(stagedDir, targetsDir, m.Name()), userfile.MaxModule)
		if err == nil {
			err = writeFile(r.path(targetsDir, m.Name()), wasm)
		}
		if err != nil {
			return err
		}
	}
	for _, file := range slices.Sorted(maps.Keys(wanted)) {
		if _, err := os.Stat(r.path(targetsDir, file)); err != nil {
			return fmt.Errorf("a module that is signed is not here: %w", err)
		}
	}
	if s.root != nil {
		if err := save(r.path(versioned(s.root.Signed.Version, metadata.ROOT)+".json"), s.root); err != nil {
			return err
		}
	}
	if err := save(r.path(versioned(s.targets.Signed.Version, metadata.TARGETS)+".json"), s.targets); err != nil {
		return err
	}
	if err := save(r.path(versioned(s.snapshot.Signed.Version, metadata.SNAPSHOT)+".json"), s.snapshot); err != nil {
		return err
	}
	if err := errors.Join(save(r.path("root.json"), s.root), save(r.path("timestamp.json"), s.timestamp)); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Clean(r.path(stagedDir)))
}

// short is the beginning of a key's ID, which tells it from others.
func short(id string) string { return id[:min(len(id), 8)] }
