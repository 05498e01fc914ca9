package repository_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// TestAttackKeysBelowThreshold: whoever has fewer keys of a role than it takes, and all of
// the other roles', gets nowhere.
func TestAttackKeysBelowThreshold(t *testing.T) {
	t.Parallel()
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			one := newRepo(t)
			for role := range one.keys {
				one.keys[role] = newKeys(t, role+"1", role+"2", role+"3")
			}
			one.setKeys(2)
			one.writeRoot(one.keys[metadata.ROOT])
			one.publish()
			u := newUser(t, one)
			u.take(one.files)
			forged := one.fork()
			few := append(newKeys(t, "mallory"), one.keys[role][0])
			if role == metadata.ROOT {
				forged.keys[metadata.TARGETS] = newKeys(t, "mallory")
				forged.setKeys(2)
				forged.root.Signed.Version++
				forged.writeRoot(few)
			} else {
				forged.keys[role] = few
			}
			forged.addFile("obfs4.wasm", "", evil)
			forged.publish()
			u.refuses("got 1, want 2", forged.files)
			one.add("obfs4", "2")
			one.keys[role] = one.keys[role][1:] // the two others are enough
			one.publish()
			u.recovers(one)
		})
	}
}

// TestAttackKeyCountedTwice: a threshold of two takes two keys, however often one of them
// is named or signs.
func TestAttackKeyCountedTwice(t *testing.T) {
	t.Parallel()
	again := func(m map[string]any, role, id string) { // lists the key of a role once more
		r := m["signed"].(map[string]any)["roles"].(map[string]any)[role].(map[string]any)
		r["keyids"] = append(r["keyids"].([]any), id)
	}
	for _, role := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		for how, twice := range map[string]func(t *testing.T, r *repo, k *key){
			"one key by two IDs": func(t *testing.T, r *repo, k *key) {
				r.root.Signed.Keys["another"] = k.public
				r.root.Signed.Roles[role].KeyIDs = []string{k.id, "another"}
			},
			"one ID twice": func(t *testing.T, r *repo, k *key) {
				r.root.Signed.Roles[role].KeyIDs = []string{k.id, k.id}
			},
			"one key in two forms": func(t *testing.T, r *repo, k *key) {
				upper := *k.public
				upper.Value.PublicKey = strings.ToUpper(upper.Value.PublicKey)
				r.root.Signed.Keys["another"] = &upper
				r.root.Signed.Roles[role].KeyIDs = []string{k.id, "another"}
			},
			"one signature twice": func(t *testing.T, r *repo, k *key) {
				other := newKey(t, "other")
				r.root.Signed.Keys[other.id] = other.public
				r.root.Signed.Roles[role].KeyIDs = []string{k.id, other.id}
			},
		} {
			t.Run(role+"/"+how, func(t *testing.T) {
				t.Parallel()
				r := newRepo(t)
				k := newKey(t, "the only one")
				r.keys[role] = []*key{k}
				r.setKeys(2)
				twice(t, r, k)
				r.root.Signed.Roles[role].Threshold = 2
				r.writeRoot(r.keys[metadata.ROOT])
				r.publish()
				double(t, r.files, role, func(sigs []any) []any {
					copied := map[string]any{"keyid": "another", "sig": sigs[0].(map[string]any)["sig"]}
					if how == "one signature twice" {
						copied["keyid"] = k.id
					}
					return append(sigs, copied)
				})
				u := newUser(t, r)
				u.refuses("", r.files)
				if u.runs("obfs4") != "" {
					t.Error("one key was enough")
				}
			})
		}
	}
	t.Run("root", func(t *testing.T) {
		t.Parallel()
		r := newRepo(t)
		k := r.keys[metadata.ROOT][0]
		r.writeRoot([]*key{k})
		doc := map[string]any{}
		must(t, json.Unmarshal(r.files["1.root.json"], &doc))
		again(doc, metadata.ROOT, k.id)
		data, err := json.Marshal(doc)
		must(t, err)
		m, err := metadata.Root().FromBytes(data)
		must(t, err)
		r.files["1.root.json"] = signed(t, m, []*key{k})
		u := newUser(t, r)
		wantError(t, u.update(r.files), "got 1, want 2")
	})
}

// double changes the signatures of a role's first file.
func double(t *testing.T, f files, role string, change func([]any) []any) {
	t.Helper()
	for name, data := range f {
		if !strings.HasSuffix(name, role+".json") {
			continue
		}
		doc := map[string]any{}
		must(t, json.Unmarshal(data, &doc))
		doc["signatures"] = change(doc["signatures"].([]any))
		data, err := json.Marshal(doc)
		must(t, err)
		f[name] = data
	}
}

// TestAttackRootSkipped: the root that follows is the next one, signed by those before it.
func TestAttackRootSkipped(t *testing.T) {
	t.Parallel()
	fresh := func(name string) map[string][]*key {
		return map[string][]*key{metadata.ROOT: newKeys(t, name+"1", name+"2")}
	}
	for name, test := range map[string]struct {
		change func(two *repo)
		text   string
	}{
		"one is left out": {func(two *repo) {
			two.rotate(fresh("a"))
			two.rotate(fresh("b"))
			two.files["2.root.json"] = two.files["3.root.json"]
		}, "not a successor"},
		"one is left out, with keys that are known": {func(two *repo) {
			two.rotate(nil)
			two.rotate(nil)
			two.files["2.root.json"] = two.files["3.root.json"]
		}, "bad version number"},
		"the old keys do not sign": {func(two *repo) {
			two.rotate(fresh("a"))
			two.writeRoot(two.keys[metadata.ROOT])
		}, "not enough signatures"},
		"the new keys do not sign": {func(two *repo) {
			old := two.keys[metadata.ROOT]
			two.rotate(fresh("a"))
			two.writeRoot(old)
		}, "not enough signatures"},
		"the same again": {func(two *repo) {
			two.files["2.root.json"] = two.files["1.root.json"]
		}, "not a successor"},
		"without end": {func(two *repo) {
			for range 66 {
				two.rotate(nil)
			}
		}, "more than 64 new roots"},
	} {
		t.Run(name, func(t *testing.T) {
			u, _, two := attacked(t)
			bad := two.fork()
			test.change(bad)
			bad.publish()
			u.refuses(test.text, bad.files)
			if name == "without end" { // it goes on where it was
				u.recovers(bad)
				return
			}
			two.rotate(fresh("c"))
			two.publish()
			u.recovers(two)
		})
	}
}

// TestAttackRootForked: of two successors of a root a user stays with the one that came
// first, and keys that it has revoked are of no use.
func TestAttackRootForked(t *testing.T) {
	u, _, two := attacked(t)
	other := two.fork()
	two.rotate(map[string][]*key{metadata.ROOT: newKeys(t, "a1", "a2"), metadata.TARGETS: newKeys(t, "a3", "a4")})
	two.publish()
	other.rotate(map[string][]*key{metadata.ROOT: newKeys(t, "b1", "b2"), metadata.TARGETS: newKeys(t, "b3", "b4")})
	other.addFile("obfs4.wasm", "", evil)
	other.targets.Signed.Version, other.snapshot.Signed.Version, other.timestamp.Signed.Version = 20, 20, 20
	other.publish()
	u.recovers(two)
	u.refuses("not enough signatures", other.files)
	other.rotate(nil) // 3.root.json
	u.refuses("not a successor", other.files)
	u.o.Root = other.files["2.root.json"]
	u.refuses("another repository", other.files)
}

// TestAttackPathTraversal: names of targets and of roles lead nowhere out of the folders
// that they are for, here and at a mirror.
func TestAttackPathTraversal(t *testing.T) {
	t.Parallel()
	names := []string{
		"../obfs4.wasm", "../../../../tmp/obfs4.wasm", "/etc/obfs4.wasm", "a/../../obfs4.wasm", `..\obfs4.wasm`, `C:\obfs4.wasm`, "a//obfs4.wasm",
		"./obfs4.wasm", "a/./obfs4.wasm", ".hidden/obfs4.wasm", "a/.obfs4.wasm", "obfs4.wasm\x00", "obfs4\x00.wasm", "\u202eobfs4.wasm", "%2e%2e/obfs4.wasm",
		"a?b/obfs4.wasm", "a#b/obfs4.wasm", "a b/obfs4.wasm", "", ".", "..", "/", strings.Repeat("a/", 120) + "obfs4.wasm",
	}
	for n, name := range names {
		t.Run(fmt.Sprint("target", n), func(t *testing.T) {
			u, _, two := attacked(t)
			delete(two.targets.Signed.Targets, "obfs4.wasm")
			two.addFile(name, `{"transport":"obfs4","version":"9"}`, evil)
			two.files["obfs4.wasm"], two.files["targets/obfs4.wasm"] = []byte(evil), []byte(evil)
			two.publish()
			_ = u.update(two.files)
			u.still("1")
			u.onlyVerified()
			u.onlyFiles()
		})
	}
	for n, name := range append(names, "root", "timestamp", "snapshot", "1.root", "targets", "modules/x", strings.Repeat("r", 300)) {
		t.Run(fmt.Sprint("role", n), func(t *testing.T) {
			u, _, two := attacked(t)
			role := two.delegate(name, newKeys(t, "author"), "mine.wasm")
			role.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", "module of mine 1")
			root := two.files["1.root.json"]
			two.publish()
			two.files["1.root.json"] = root
			two.writeTimestamp()
			_ = u.update(two.files)
			u.accept()
			u.onlyVerified()
			u.onlyFiles()
			three := two.fork()
			three.targets.Signed.Delegations = nil
			three.delegated = nil
			three.snapshot.Signed.Version, three.timestamp.Signed.Version = 20, 20
			three.add("obfs4", "3")
			three.publish()
			u.take(three.files)
			u.still("3")
		})
	}
}

// onlyFiles fails the test if the state directory has anything but the store, or the store
// anything but its own files.
func (u *user) onlyFiles() {
	u.t.Helper()
	for dir, want := range map[string][]string{
		u.state:       {"repository"},
		u.store.Dir(): {"lock", "look.json", "looking", "metadata", "modules", "modules.json", "offered.json", "partial"},
	} {
		entries, err := os.ReadDir(dir)
		must(u.t, err)
		for _, e := range entries {
			if !slices.Contains(want, e.Name()) {
				u.t.Errorf("there is %s", filepath.Join(dir, e.Name()))
			}
		}
	}
}

// TestAttackWrongSoftware: a name gives the module that was signed for it and no other,
// and a role that may name some files names no others.
func TestAttackWrongSoftware(t *testing.T) {
	t.Parallel()
	t.Run("mirror", func(t *testing.T) {
		u, _, two := attacked(t)
		forged := two.fork()
		forged.files[targetFile("obfs4.wasm", content("obfs4", "2"))] = forged.files[targetFile("plain.wasm", content("plain", "1"))]
		u.refuses("not what was signed", forged.files)
		u.recovers(two)
	})
	t.Run("two files for one name", func(t *testing.T) {
		u, _, two := attacked(t)
		two.addFile("other.wasm", `{"transport":"obfs4","version":"9"}`, evil)
		two.publish()
		must(t, u.update(two.files))
		u.still("1")
		u.onlyVerified()
	})
	for name, test := range map[string]struct{ path, custom string }{
		"role beyond its paths":           {"obfs4.wasm", ""},
		"role with another's name":        {"mine.wasm", `{"transport":"obfs4","version":"9"}`},
		"role with another's name, twice": {"mine.wasm", `{"transport":"mine","Transport":"obfs4"}`},
		"role with another's name below":  {"mine/obfs4.wasm", ""},
	} {
		t.Run(name, func(t *testing.T) {
			u, _, two := attacked(t)
			delete(two.targets.Signed.Targets, "obfs4.wasm")
			role := two.delegate("author", newKeys(t, "author"), "mine.wasm", "mine/*")
			role.Signed.Targets[test.path] = two.target(test.path, test.custom, evil)
			two.publish()
			_ = u.update(two.files)
			u.still("1")
			u.onlyVerified()
		})
	}
	t.Run("role that is taken back", func(t *testing.T) {
		u, _, two := attacked(t)
		role := two.delegate("author", newKeys(t, "author"), "mine.wasm")
		role.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", content("mine", "1"))
		two.publish()
		u.take(two.files)
		if got := u.runs("mine"); got != content("mine", "1") {
			t.Fatalf("mine is %q", got)
		}
		two.targets.Signed.Delegations.Roles[0].Paths = []string{"other.wasm"}
		role.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", evil)
		role.Signed.Version++
		two.publish()
		must(t, u.update(two.files))
		if got := u.runs("mine"); got != content("mine", "1") {
			t.Errorf("mine is %q", got)
		}
	})
}

// TestAttackDelegatedExpired: a role of others that is not renewed holds up nobody else, and
// what it may have is nobody else's meanwhile.
func TestAttackDelegatedExpired(t *testing.T) {
	u, _, two := attacked(t)
	author := two.delegate("author", newKeys(t, "author"), "mine.wasm")
	author.Signed.Expires = day0.Add(time.Hour)
	author.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", content("mine", "1"))
	other := two.delegate("other", newKeys(t, "other"), "*.wasm")
	other.Signed.Targets["mine.wasm"] = two.target("mine.wasm", "", evil)
	other.Signed.Targets["others.wasm"] = two.target("others.wasm", "", content("others", "1"))
	two.publish()
	u.recovers(two)
	u.onlyVerified()
	if got := u.runs("others"); got != content("others", "1") {
		t.Errorf("others is %q", got)
	}
	if got := u.runs("mine"); got != "" {
		t.Errorf("mine is %q", got)
	}
}

// watched is a mirror that notes what it is asked for.
type watched struct {
	files
	asked map[string]bool
}

func (w *watched) Get(ctx ctx, file string, limit int64) ([]byte, error) {
	w.asked[file] = true
	return w.files.Get(ctx, file, limit)
}

func (w *watched) Resume(ctx ctx, file string, to *os.File, length int64) error {
	w.asked[file] = true
	return w.files.Resume(ctx, file, to, length)
}

// TestAttackExtraneousDependencies: nothing is fetched but what was asked for, whatever
// else a repository or a module's metadata would like to bring.
func TestAttackExtraneousDependencies(t *testing.T) {
	u, _, two := attacked(t)
	two.addFile("obfs4.wasm", `{"transport":"obfs4","version":"2","dependencies":["extra.wasm"],"needs":{"modules":["extra"]}}`, content("obfs4", "2"))
	two.addFile("extra.wasm", "", "module of extra 1")
	two.addFile("extra.so", "", evil)
	two.addFile("extra.wasm.conf", `{"version":"1"}`, evil)
	two.publish()
	two.files["targets/unsigned.wasm"] = []byte(evil)
	w := &watched{two.files, map[string]bool{}}
	u.o.Names = []string{"obfs4"}
	u.take(w)
	u.still("2")
	for file := range w.asked {
		if strings.HasPrefix(file, "targets/") && file != targetFile("obfs4.wasm", content("obfs4", "2")) {
			t.Errorf("%s was fetched", file)
		}
	}
	if got := u.runs("extra"); got != "" {
		t.Errorf("extra is %q", got)
	}
	u.onlyVerified()
	u.o.Names = nil
	u.take(two.files)
	if i, err := u.store.Index(); err != nil || !slices.Equal(i.Names(), []string{"extra", "obfs4", "plain"}) {
		t.Errorf("there are %v, %v", i.Names(), err)
	}
	u.onlyVerified()
}
