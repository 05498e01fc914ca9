package repository_test

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/repository"
)

// evil is a module that nobody honest has signed.
const evil = "evil"

// The state of every attack's beginning is made once: signatures take time.
var (
	once     sync.Once
	first    *repo  // with version 1
	second   *repo  // with version 2
	followed string // the state of a user who has taken version 1
)

// attacked returns a user who runs version 1 of obfs4, the repository at that time, and the
// repository with version 2.
func attacked(t *testing.T) (u *user, one, two *repo) {
	t.Helper()
	t.Parallel()
	once.Do(func() {
		first = newRepo(t)
		second = first.fork()
		second.add("obfs4", "2")
		second.publish()
		u := newUser(t, first)
		u.take(first.files)
		followed = u.state + ".first" // which TestMain removes
		copyDir(t, followed, u.state)
	})
	one, two = first.fork(), second.fork()
	one.t, two.t = t, t
	u = newUser(t, one)
	copyDir(t, u.state, followed)
	return u, one, two
}

// recovers takes version 2, after an attack that has got nowhere.
func (u *user) recovers(two *repo) {
	u.t.Helper()
	u.take(two.files)
	u.still("2")
}

// TestAttackArbitrarySoftware: whoever lacks the keys of one role, and has those of all
// others, cannot make a user take a module; nor can a mirror with other bytes.
func TestAttackArbitrarySoftware(t *testing.T) {
	t.Parallel()
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		for how, keys := range map[string][]*key{"others sign": newKeys(t, "mallory1", "mallory2"), "nobody signs": nil} {
			t.Run(role+"/"+how, func(t *testing.T) {
				u, one, two := attacked(t)
				forged := one.fork()
				if role == metadata.ROOT {
					for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
						forged.keys[role] = newKeys(t, "mallory1", "mallory2")
					}
					forged.setKeys(2)
					forged.root.Signed.Version++
					forged.writeRoot(keys)
				} else {
					forged.keys[role] = keys
				}
				forged.addFile("obfs4.wasm", "", evil)
				forged.publish()
				u.refuses("not enough signatures", forged.files)
				u.recovers(two)
			})
		}
	}
	t.Run("delegated", func(t *testing.T) {
		u, _, two := attacked(t)
		role := two.delegate("author", newKeys(t, "author"), "mine.wasm")
		role.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", evil)
		forged := two.fork()
		forged.keys["delegated/author"] = newKeys(t, "mallory")
		forged.publish()
		u.refuses("not enough signatures", forged.files)
	})
	for what, bytes := range map[string]string{"other bytes": "module 0f obfs4 2", "more bytes": content("obfs4", "2") + "!", "fewer bytes": "module of", "nothing": ""} {
		t.Run("module/"+what, func(t *testing.T) {
			u, _, two := attacked(t)
			forged := two.fork()
			forged.files[targetFile("obfs4.wasm", content("obfs4", "2"))] = []byte(bytes)
			u.refuses("", forged.files)
			u.recovers(two)
		})
	}
}

// TestAttackRollback: a version that is older than one that was seen is refused, also by
// whoever has the keys of the roles above it.
func TestAttackRollback(t *testing.T) {
	t.Parallel()
	for name, roll := range map[string]struct {
		forge func(one, two *repo) files
		text  string
	}{
		"everything": {func(one, _ *repo) files { return one.files }, "version"},
		"timestamp": {func(_, two *repo) files {
			two.timestamp.Signed.Version--
			two.writeTimestamp()
			return two.files
		}, "version"},
		"snapshot": {func(one, two *repo) files {
			two.timestamp.Signed.Version++
			two.timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(one.snapshot.Signed.Version)
			two.writeTimestamp()
			return two.files
		}, "version"},
		"targets": {func(one, two *repo) files {
			two.snapshot.Signed.Version++
			two.timestamp.Signed.Version++
			two.snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(one.targets.Signed.Version)
			two.writeSnapshot()
			return two.files
		}, "version"},
		"targets that the snapshot omits": {func(_, two *repo) files {
			two.snapshot.Signed.Version++
			two.timestamp.Signed.Version++
			delete(two.snapshot.Signed.Meta, "targets.json")
			two.writeSnapshot()
			return two.files
		}, "targets.json"},
		"root": {func(one, two *repo) files {
			two.publish()
			two.files["2.root.json"] = one.files["1.root.json"]
			return two.files
		}, "not a successor"},
	} {
		t.Run(name, func(t *testing.T) {
			u, one, two := attacked(t)
			u.recovers(two)
			three := two.fork()
			u.refuses(roll.text, roll.forge(one, two))
			u.still("2")
			three.add("obfs4", "3")
			three.snapshot.Signed.Version++ // beyond what the attacker has signed
			three.timestamp.Signed.Version++
			three.publish()
			u.take(three.files)
			u.still("3")
		})
	}
	t.Run("module", func(t *testing.T) {
		u, _, two := attacked(t)
		forged := two.fork()
		forged.files[targetFile("obfs4.wasm", content("obfs4", "2"))] = []byte(content("obfs4", "1"))
		u.refuses("not what was signed", forged.files)
		u.recovers(two)
	})
	t.Run("keys that were revoked", func(t *testing.T) {
		u, one, two := attacked(t)
		two.rotate(map[string][]*key{metadata.TIMESTAMP: newKeys(t, "timestamp2"), metadata.SNAPSHOT: newKeys(t, "snapshot2"), metadata.TARGETS: newKeys(t, "targets4")})
		two.publish()
		u.recovers(two)
		one.addFile("obfs4.wasm", "", evil) // with the old keys, and the new root hidden
		one.timestamp.Signed.Version += 10
		one.publish()
		u.refuses("not enough signatures", one.files)
		u.still("2")
	})
}

// TestAttackIndefiniteFreeze: a mirror that goes on showing what was good once is believed
// until it expires. Then there is an error, and another mirror is used.
func TestAttackIndefiniteFreeze(t *testing.T) {
	t.Parallel()
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			one := newRepo(t)
			end := day0.Add(3 * day)
			*one.expiryOf(role) = end
			one.writeRoot(one.keys[metadata.ROOT])
			one.publish()
			u := newUser(t, one)
			u.take(one.files)
			two := one.fork()
			*two.expiryOf(metadata.ROOT) = day0.Add(100 * day)
			two.rotate(nil)
			two.add("obfs4", "2")
			two.renew(day0.Add(3 * day))
			u.o.Now = end.Add(-time.Second)
			u.take(one.files)
			u.o.Now = end.Add(time.Second)
			u.refuses("expired", one.files)
			u.still("1")
			u.take(one.files, two.files)
			u.still("2")
		})
	}
}

// expiryOf returns when a role expires.
func (r *repo) expiryOf(role string) *time.Time {
	switch role {
	case metadata.ROOT:
		return &r.root.Signed.Expires
	case metadata.TIMESTAMP:
		return &r.timestamp.Signed.Expires
	case metadata.SNAPSHOT:
		return &r.snapshot.Signed.Expires
	}
	return &r.targets.Signed.Expires
}

// TestAttackExpired: new metadata that has expired is refused, with what the machine's
// clock says, and what runs goes on.
func TestAttackExpired(t *testing.T) {
	t.Parallel()
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		t.Run(role, func(t *testing.T) {
			u, _, two := attacked(t)
			stale := two.fork()
			*stale.expiryOf(role) = day0.Add(time.Hour)
			if role == metadata.ROOT {
				stale.rotate(nil)
			}
			stale.publish()
			u.refuses("expired", stale.files)
			if role == metadata.ROOT {
				two = stale.fork()
				*two.expiryOf(role) = day0.Add(100 * day)
				two.rotate(nil)
			}
			two.renew(day0)
			two.publish()
			u.recovers(two)
		})
	}
	t.Run("a root between others", func(t *testing.T) {
		u, _, two := attacked(t)
		*two.expiryOf(metadata.ROOT) = day0.Add(time.Hour)
		two.rotate(nil)
		*two.expiryOf(metadata.ROOT) = day0.Add(100 * day)
		two.rotate(nil)
		u.recovers(two)
	})
}

// TestAttackClock: with a clock that is ahead there is an error that has its time, with one
// that is behind a warning; what runs goes on, and a clock that is right again is enough.
func TestAttackClock(t *testing.T) {
	t.Parallel()
	t.Run("ahead", func(t *testing.T) {
		u, _, two := attacked(t)
		u.o.Now = day0.Add(200 * day)
		u.refuses("this machine's clock is at 2026-07-20", two.files)
		expired := new(repository.ExpiredError)
		if err := u.update(two.files); !errors.As(err, &expired) || expired.Role != metadata.TIMESTAMP {
			t.Errorf("the error is %v", err)
		}
		u.o.Now = day0.Add(2 * day)
		u.recovers(two)
	})
	t.Run("behind", func(t *testing.T) {
		u, _, two := attacked(t)
		u.o.Now = day0.Add(-1000 * day)
		u.recovers(two)
		wantError(t, errors.New(u.log.String()), "the clock is behind")
		u.o.Now = day0.Add(2 * day)
		u.take(two.files)
		u.still("2")
	})
}

// TestAttackFastForward: whoever had a key has raised the numbers of versions as far as
// they go, and no honest version is new any more. Other keys end that.
func TestAttackFastForward(t *testing.T) {
	t.Parallel()
	for role, rotated := range map[string]string{
		metadata.TIMESTAMP: metadata.TIMESTAMP, metadata.SNAPSHOT: metadata.SNAPSHOT, metadata.TARGETS: metadata.SNAPSHOT,
	} {
		for _, interrupted := range []bool{false, true} {
			name := role
			if interrupted {
				name += "/recovery is interrupted"
			}
			t.Run(name, func(t *testing.T) {
				u, one, two := attacked(t)
				switch role {
				case metadata.TIMESTAMP:
					one.timestamp.Signed.Version = math.MaxInt64 - 1
				case metadata.SNAPSHOT:
					one.snapshot.Signed.Version = math.MaxInt64 - 1
				case metadata.TARGETS:
					one.targets.Signed.Version = math.MaxInt64 - 1
				}
				one.publish()
				u.take(one.files)
				two.timestamp.Signed.Version, two.snapshot.Signed.Version = 10, max(10, one.snapshot.Signed.Version%100)
				two.publish()
				u.refuses("version", two.files)
				two.rotate(map[string][]*key{rotated: newKeys(t, rotated+"2")})
				two.publish()
				if interrupted {
					// The step that forgets the numbers fails once, as if the process ended there.
					restore := replaceByFolder(t, u.store.Dir()+"/metadata/timestamp.json")
					if err := u.update(two.files); err == nil {
						t.Fatal("nothing is interrupted")
					}
					restore()
				}
				u.recovers(two)
			})
		}
	}
	t.Run("snapshot/recovery by a root that the operator names", func(t *testing.T) {
		u, one, two := attacked(t)
		one.snapshot.Signed.Version = math.MaxInt64 - 1
		one.publish()
		u.take(one.files)
		two.timestamp.Signed.Version = 10
		two.rotate(map[string][]*key{metadata.SNAPSHOT: newKeys(t, "snapshot2")})
		two.publish()
		u.o.Root = two.files["2.root.json"]
		u.recovers(two)
	})
	t.Run("root", func(t *testing.T) {
		u, one, two := attacked(t)
		one.root.Signed.Version = math.MaxInt64 - 1
		one.put("root", 2, signed(t, one.root, one.keys[metadata.ROOT]))
		one.publish()
		u.refuses("bad version number", one.files)
		u.recovers(two)
	})
}

// TestAttackMixAndMatch: files of different times of the repository do not go together.
func TestAttackMixAndMatch(t *testing.T) {
	t.Parallel()
	for name, mix := range map[string]func(old, new files){
		"snapshot": func(old, new files) { new["2.snapshot.json"] = old["1.snapshot.json"] },
		"targets":  func(old, new files) { new["2.targets.json"] = old["1.targets.json"] },
		"roles":    func(_, new files) { new["2.targets.json"] = new["2.snapshot.json"] },
		"role and root": func(_, new files) {
			new["timestamp.json"] = new["1.root.json"]
		},
		"snapshot and module": func(old, new files) {
			new["2.snapshot.json"] = old["1.snapshot.json"]
			new["1.targets.json"] = old["1.targets.json"]
		},
	} {
		t.Run(name, func(t *testing.T) {
			u, one, two := attacked(t)
			mixed := two.fork()
			mix(one.files, mixed.files)
			u.refuses("", mixed.files)
			u.recovers(two)
		})
	}
	t.Run("other repository", func(t *testing.T) {
		u, _, two := attacked(t)
		other := newRepo(t)
		for role := range other.keys {
			other.keys[role] = newKeys(t, "other"+role, "another"+role)
		}
		other.setKeys(2)
		other.writeRoot(other.keys[metadata.ROOT])
		other.publish()
		root := u.o.Root
		u.o.Root = other.files["1.root.json"]
		u.refuses("another repository", other.files)
		u.o.Root = root
		u.refuses("not enough signatures", other.files)
		u.recovers(two)
	})
}
