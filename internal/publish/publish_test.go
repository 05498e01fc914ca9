package publish

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/release"
)

var (
	at       = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	believe  = 30 * 24 * time.Hour
	rootFor  = 365 * 24 * time.Hour
	twoOfAll = InitOptions{Threshold: 2, Now: at, RootFor: rootFor, Believe: believe}
)

// newKeys makes keys without passphrases, and returns their files too.
func newKeys(t *testing.T, n int) (keys []*Key, files []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		file := filepath.Join(dir, fmt.Sprintf("%d.key", i+1))
		k, err := NewKey(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		keys, files = append(keys, k), append(files, file)
	}
	return keys, files
}

func newRepository(t *testing.T, keys []*Key) *Repository {
	t.Helper()
	r := Open(filepath.Join(t.TempDir(), "repository"))
	o := twoOfAll
	o.Keys = keys
	if err := r.Init(o); err != nil {
		t.Fatal(err)
	}
	signed(t, r, keys...)
	return r
}

// signed signs what is staged, which publishes it.
func signed(t *testing.T, r *Repository, keys ...*Key) {
	t.Helper()
	if missing, err := r.Sign(keys); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
}

func add(t *testing.T, r *Repository, version, wasm string) {
	t.Helper()
	if err := r.Add(release.Release{Transport: "river", Version: version}, []byte(wasm), at, believe); err != nil {
		t.Fatal(err)
	}
}

// content describes all files of a repository.
func content(t *testing.T, r *Repository) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(r.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %x\n", strings.TrimPrefix(path, r.dir), sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestReproducible: the same input and keys give the same bytes, in whatever order the keys
// sign.
func TestReproducible(t *testing.T) {
	keys, _ := newKeys(t, 3)
	var all []string
	for _, order := range [][]*Key{{keys[0], keys[2]}, {keys[2], keys[0]}} {
		r := newRepository(t, keys)
		add(t, r, "1", "one")
		for _, k := range order {
			if _, err := r.Sign([]*Key{k}); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, content(t, r))
	}
	if all[0] != all[1] {
		t.Errorf("two repositories differ:\n%s\n%s", all[0], all[1])
	}
}

// TestThreshold: nothing is published before enough keys have signed, whoever signs twice,
// and strangers' keys sign nothing.
func TestThreshold(t *testing.T) {
	keys, _ := newKeys(t, 4)
	r := newRepository(t, keys[:3])
	add(t, r, "1", "one")
	before := content(t, r)
	if _, err := r.Sign([]*Key{keys[3]}); err == nil || !strings.Contains(err.Error(), "is not one of the repository's") {
		t.Errorf("a stranger signs: %v", err)
	}
	if content(t, r) != before {
		t.Error("a stranger has changed something")
	}
	for range 2 {
		missing, err := r.Sign([]*Key{keys[0], keys[0]})
		if err != nil || len(missing) != 3 || !strings.Contains(missing[0], "1 of 2") {
			t.Fatalf("one key: %q, %v", missing, err)
		}
	}
	if last, err := r.published(); err != nil || last.timestamp.Signed.Version != 1 {
		t.Errorf("it is published: %v", err)
	}
	signed(t, r, keys[1])
	if _, err := r.Sign(keys[:2]); !errors.Is(err, ErrNothingStaged) {
		t.Errorf("signing nothing: %v", err)
	}
}

// TestVersions: versions of metadata count up by one for each publication, however often
// something was staged for it, and one version of a transport is one module.
func TestVersions(t *testing.T) {
	keys, _ := newKeys(t, 3)
	r := newRepository(t, keys)
	add(t, r, "1", "one")
	add(t, r, "2", "two")
	if err := r.Renew(at, believe); err == nil {
		t.Error("what is staged would be published by renewing")
	}
	if err := r.Discard(); err != nil {
		t.Fatal(err)
	}
	add(t, r, "1", "one")
	add(t, r, "2", "two")
	signed(t, r, keys...)
	last, err := r.published()
	if err != nil || last.targets.Signed.Version != 2 || last.snapshot.Signed.Version != 2 || last.timestamp.Signed.Version != 2 {
		t.Errorf("%v: versions %+v", err, last)
	}
	if err := r.Add(release.Release{Transport: "river", Version: "2"}, []byte("three"), at, believe); err == nil {
		t.Error("a version stands for two modules")
	}
	if err := r.Add(release.Release{Transport: "ri-ver", Version: "1"}, []byte("x"), at, believe); err == nil {
		t.Error("a name that tor would not take is published")
	}
	if err := r.Remove("ocean", at, believe); err == nil {
		t.Error("what is not there is removed")
	}
	if err := r.Remove("river", at, believe); err != nil {
		t.Fatal(err)
	}
	signed(t, r, keys...)
	if last, err := r.published(); err != nil || len(last.targets.Signed.Targets) != 0 {
		t.Errorf("it is still there: %v", err)
	}
}

// TestRotate: enough of the old keys and of the new ones have to sign.
func TestRotate(t *testing.T) {
	keys, files := newKeys(t, 4)
	r := newRepository(t, keys[:3])
	add(t, r, "1", "one")
	o := Rotation{Add: []string{files[3] + PublicSuffix}, Remove: []string{keys[0].ID[:8]}, Now: at, RootFor: rootFor, Believe: believe}
	if err := r.Rotate(Rotation{Remove: o.Remove, Now: at, RootFor: rootFor, Believe: believe}); err != nil {
		t.Fatal(err)
	}
	o.Remove = nil // a second rotation goes on with what is staged
	if err := r.Rotate(o); err != nil {
		t.Fatal(err)
	}
	var status bytes.Buffer
	if err := r.Status(&status, at); err != nil || !strings.Contains(status.String(), "keys that go: "+keys[0].ID[:8]+"; keys that come: "+keys[3].ID[:8]) {
		t.Errorf("%v: %s", err, &status)
	}
	for _, k := range []*Key{keys[0], keys[3]} {
		if missing, err := r.Sign([]*Key{k}); err != nil || len(missing) == 0 {
			t.Fatal(missing, err)
		}
	}
	signed(t, r, keys[1])
	last, err := r.published()
	if err != nil || last.root.Signed.Version != 2 || last.targets.Signed.Targets["river.wasm"] == nil {
		t.Fatalf("%v: %+v", err, last)
	}
	for _, bad := range []Rotation{{Remove: []string{"zz"}}, {Remove: []string{""}}, {Threshold: 4}, {Threshold: -1}, {Add: []string{"/nowhere"}}} {
		if err := r.Rotate(bad); err == nil {
			t.Errorf("%+v is a rotation", bad)
		}
	}
}

// TestCeremony: keys that were made elsewhere sign a repository, to which modules may have
// been added already.
func TestCeremony(t *testing.T) {
	keys, files := newKeys(t, 3)
	r := Open(filepath.Join(t.TempDir(), "repository"))
	o := twoOfAll
	for _, file := range files {
		o.Public = append(o.Public, file+PublicSuffix)
	}
	if err := r.Init(o); err != nil {
		t.Fatal(err)
	}
	if err := r.Init(o); err == nil {
		t.Error("a repository is made twice")
	}
	add(t, r, "1", "one")
	var status bytes.Buffer
	if err := r.Status(&status, at); err != nil || !strings.Contains(status.String(), "0 of 2 signatures") {
		t.Errorf("%v: %s", err, &status)
	}
	if missing, err := r.Sign(keys[:1]); err != nil || len(missing) != 4 {
		t.Fatal(missing, err)
	}
	signed(t, r, keys[2])
	last, err := r.published()
	if err != nil || last.timestamp.Signed.Version != 1 || last.targets.Signed.Targets["river.wasm"] == nil {
		t.Errorf("%v: %+v", err, last)
	}
}

// TestPublishAgain: a publication that ended in between is done again by the next
// signature, and is not served before.
func TestPublishAgain(t *testing.T) {
	keys, _ := newKeys(t, 3)
	r := newRepository(t, keys)
	add(t, r, "1", "one")
	if err := os.WriteFile(r.path(targetsDir), nil, 0o600); err != nil { // it cannot be a folder now
		t.Fatal(err)
	}
	if _, err := r.Sign(keys); err == nil {
		t.Fatal("it is published without its module")
	}
	if last, err := r.published(); err != nil || last.timestamp.Signed.Version != 1 {
		t.Fatalf("half of it is published: %v", err)
	}
	if err := os.Remove(r.path(targetsDir)); err != nil {
		t.Fatal(err)
	}
	signed(t, r, keys[0])
}

// TestKeys: a key is read with its passphrase only, never overwritten, and its public part
// signs nothing.
func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.key")
	made, err := NewKey(file, []byte("river"))
	if err != nil {
		t.Fatal(err)
	}
	phrase := func(text string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(text), nil } }
	if k, err := ReadKey(file, phrase("river")); err != nil || k.ID != made.ID {
		t.Errorf("it is not the key that was made: %v", err)
	}
	for _, wrong := range []string{"", "ocean"} {
		if _, err := ReadKey(file, phrase(wrong)); err == nil || !strings.Contains(err.Error(), "passphrase") {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	if _, err := ReadKey(file+PublicSuffix, phrase("river")); err == nil {
		t.Error("a public key signs")
	}
	if _, err := NewKey(file, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key is overwritten: %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("private")) {
		t.Errorf("it is not encrypted: %v", err)
	}
}
