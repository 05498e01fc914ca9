package repository

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/mirror"
)

// targets verifies a targets role.
func (t *trust) targets(ctx context.Context, from mirror.Mirror, role, parent string) error {
	if t.set.Targets[role] != nil {
		return nil
	}
	meta := t.set.Snapshot.Signed.Meta[role+".json"]
	if meta == nil {
		return fmt.Errorf("the snapshot has no %s.json", role)
	}
	local := role
	if parent != metadata.ROOT {
		local = "delegated/" + role // a role may have nearly any name, "1.root" too
	}
	if kept := t.read(local); kept != nil {
		_, err := t.set.UpdateDelegatedTargets(kept, role, parent)
		if err == nil {
			return nil
		}
		t.logUnfit(role, err)
	}
	data, err := t.get(ctx, from, role, t.consistent(meta.Version), bound(meta, maxTargets))
	if err != nil {
		return err
	}
	if _, err := t.set.UpdateDelegatedTargets(data, role, parent); err != nil {
		return fmt.Errorf("%s.json: %w", role, err)
	}
	return t.keep(local, data)
}

// delegations verifies the roles to which targets roles delegate, and those to which these
// do.
func (t *trust) delegations(ctx context.Context, from mirror.Mirror) error {
	waiting := []string{metadata.TARGETS}
	for len(waiting) > 0 {
		parent := waiting[0]
		waiting = waiting[1:]
		d := t.set.Targets[parent].Signed.Delegations
		if d == nil {
			continue
		}
		for _, role := range roleNames(d) {
			if t.set.Targets[role] != nil {
				continue
			}
			if len(t.set.Targets) > maxRoles {
				return fmt.Errorf("the repository has more than %d delegated roles", maxRoles)
			}
			if slices.Contains(metadata.TOP_LEVEL_ROLE_NAMES[:], role) {
				return fmt.Errorf("a delegated role has the name %s, which is another's", role)
			}
			err := t.targets(ctx, from, role, parent)
			if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
				// It is not to hold up the others.
				t.log.Warn("a delegated role of the repository has expired; what it has is not offered", "role", role)
				continue
			}
			if err != nil {
				return err
			}
			waiting = append(waiting, role)
		}
	}
	return nil
}

func roleNames(d *metadata.Delegations) (names []string) {
	if d.SuccinctRoles != nil {
		if d.SuccinctRoles.BitLength < 1 || d.SuccinctRoles.BitLength > 6 {
			return nil // more than maxRoles, or none
		}
		return d.SuccinctRoles.GetRoles()
	}
	for _, role := range d.Roles {
		names = append(names, role.Name)
	}
	return names
}

// find returns a target in the first role that has it among those that may (TUF 5.6.7).
func (t *trust) find(file string) (*metadata.TargetFiles, string) {
	visited := map[string]bool{}
	waiting := []string{metadata.TARGETS} // the last is next
	for len(waiting) > 0 {
		role := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if visited[role] {
			continue
		}
		targets := t.set.Targets[role]
		if targets == nil {
			return nil, "" // it has expired, and comes before those that are left
		}
		visited[role] = true
		if target := targets.Signed.Targets[file]; target != nil {
			return target, role
		}
		if targets.Signed.Delegations == nil {
			continue
		}
		var children []string
		for _, child := range targets.Signed.Delegations.GetRolesForTarget(file) {
			children = append(children, child.Name)
			if child.Terminating {
				waiting = nil
				break
			}
		}
		slices.Reverse(children)
		waiting = append(waiting, children...)
	}
	return nil, ""
}

// files returns the paths of all targets, sorted.
func (t *trust) files() (all []string) {
	for _, role := range t.set.Targets {
		for file := range role.Signed.Targets {
			all = append(all, file)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// paths returns where a target can be, likeliest first.
func (t *trust) paths(file string, target *metadata.TargetFiles) (all []string) {
	if t.set.Root.Signed.ConsistentSnapshot {
		for _, kind := range []string{"sha256", "sha512"} {
			if sum, ok := target.Hashes[kind]; ok {
				all = append(all, path.Join("targets", path.Dir(file), fmt.Sprintf("%x.%s", []byte(sum), path.Base(file))))
			}
		}
	}
	return append(all, path.Join("targets", file))
}
