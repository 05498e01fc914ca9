package publish

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/release"
)

// Status writes what is published, what is staged, and what that lacks.
func (r *Repository) Status(w io.Writer, now time.Time) error {
	last, err := r.published()
	if err != nil && last.root != nil {
		return err
	}
	if last.root != nil && last.timestamp != nil && last.targets != nil {
		fmt.Fprintf(w, "published: version %d\n", last.timestamp.Signed.Version)
		expiry := func(what string, at time.Time) {
			left := "expired"
			if d := at.Sub(now); d > 0 {
				left = fmt.Sprintf("%.1f days left", d.Hours()/24)
			}
			fmt.Fprintf(w, "  %s until %s, %s\n", what, at.Format(time.RFC3339), left)
		}
		role := last.root.Signed.Roles[metadata.ROOT]
		expiry(fmt.Sprintf("keys: %d of %s have to sign (root version %d)", role.Threshold, shorts(role.KeyIDs), last.root.Signed.Version), last.root.Signed.Expires)
		expiry("modules", last.timestamp.Signed.Expires)
		for _, line := range releases(last.targets) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	s, err := r.staged()
	switch {
	case errors.Is(err, ErrNothingStaged) && last.root == nil:
		_, err := r.published()
		return err
	case errors.Is(err, ErrNothingStaged):
		fmt.Fprintln(w, "staged: nothing")
		return nil
	case err != nil:
		return err
	}
	s.write(w)
	return nil
}

// StagedStatus writes what is staged, and what it lacks.
func (r *Repository) StagedStatus(w io.Writer) error {
	s, err := r.staged()
	if err == nil {
		s.write(w)
	}
	return err
}

func (s *staging) write(w io.Writer) {
	fmt.Fprintf(w, "staged: version %d\n", s.timestamp.Signed.Version)
	if s.root != nil {
		role := s.root.Signed.Roles[metadata.ROOT]
		fmt.Fprintf(w, "  keys: %d of %s have to sign (root version %d), until %s\n", role.Threshold, shorts(role.KeyIDs), s.root.Signed.Version, s.root.Signed.Expires.Format(time.RFC3339))
		if s.old != nil {
			before := s.old.Signed.Roles[metadata.ROOT].KeyIDs
			fmt.Fprintf(w, "  keys that go: %s; keys that come: %s\n", cmp.Or(shorts(without(before, role.KeyIDs)), "none"), cmp.Or(shorts(without(role.KeyIDs, before)), "none"))
		}
	}
	fmt.Fprintf(w, "  modules until %s\n", s.timestamp.Signed.Expires.Format(time.RFC3339))
	for _, line := range releases(s.targets) {
		fmt.Fprintf(w, "  %s\n", line)
	}
	missing := s.missing()
	for _, line := range missing {
		fmt.Fprintf(w, "  %s\n", line)
	}
	if len(missing) == 0 {
		fmt.Fprintln(w, "  it has all signatures; `waterproxy publish sign` publishes it")
	}
}

// without returns those of ids that are not among others.
func without(ids, others []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(others, id) })
}

func shorts(ids []string) string {
	var all []string
	for _, id := range ids {
		all = append(all, short(id))
	}
	return strings.Join(all, ", ")
}

// releases describes the modules of a repository, one line for each.
func releases(targets *metadata.Metadata[metadata.TargetsType]) (lines []string) {
	for _, file := range slices.Sorted(maps.Keys(targets.Signed.Targets)) {
		target := targets.Signed.Targets[file]
		rel, _, err := release.Parse(file, target.Custom)
		if err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", file, err))
			continue
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s, SHA-256 %x, %d bytes. %s", rel.Transport, cmp.Or(rel.Version, "-"), []byte(target.Hashes["sha256"]), target.Length, rel.Description)))
		if needs := describeNeeds(rel); needs != "" {
			lines = append(lines, "  it needs "+needs)
		}
	}
	return lines
}

// describeNeeds lists what a module cannot do without, for those who sign it.
func describeNeeds(rel release.Release) string {
	var all []string
	for _, rule := range rel.Needs.Allow {
		all = append(all, "to dial "+rule)
	}
	if rel.Needs.State {
		all = append(all, "a directory for files")
	}
	if rel.Needs.Memory > 0 {
		all = append(all, fmt.Sprintf("%d MiB of memory", rel.Needs.Memory>>20))
	}
	if rel.Needs.Threads > 0 {
		all = append(all, "threads")
	}
	if rel.Needs.HostCrypto {
		all = append(all, "the host's cryptography")
	}
	if rel.Minimum != "" {
		all = append(all, "waterproxy "+rel.Minimum)
	}
	return strings.Join(all, ", ")
}
