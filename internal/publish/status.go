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
	fmt.Fprintf(w, "staged: version %d\n", s.timestamp.Signed.Version)
	if s.root != nil {
		role := s.root.Signed.Roles[metadata.ROOT]
		fmt.Fprintf(w, "  keys: %d of %s have to sign (root version %d)\n", role.Threshold, shorts(role.KeyIDs), s.root.Signed.Version)
	}
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
	return nil
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
	}
	return lines
}
