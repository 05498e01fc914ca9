//go:build unix

package repository_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/mirror"
	"waterproxy/internal/repository"
)

// A test starts processes that look for news as a user does. This is what one is told, as
// JSON.
const childVariable = "WATERPROXY_TEST_LOOK"

type task struct {
	State, Mirror string
	Root          []byte
	FileSize      uint64 // that no file may exceed; 0 for any
	Times         int    // that it looks
}

// child is such a process. It returns the exit status.
func child(text string) int {
	var k task
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		fmt.Println(err)
		return 2
	}
	if k.FileSize > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: k.FileSize, Max: k.FileSize}); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	m, err := mirror.Open(k.Mirror, mirror.Options{})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	for range max(k.Times, 1) {
		s := repository.New(k.State)
		_, err = s.Update(context.Background(), repository.Options{
			Root: k.Root, Mirrors: []mirror.Mirror{m}, Waterproxy: "1.0.0", Now: day0.Add(day), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		i, err := s.Index()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for _, name := range i.Names() {
			if err := s.Accept(context.Background(), i.Best(name)); err != nil {
				fmt.Println(err)
				return 1
			}
		}
	}
	return 0
}

func (k task) command(t testing.TB) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(k)
	must(t, err)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+string(text), "GORACE=atexit_sleep_ms=0")
	return c
}

var (
	kills    = flag.Int("attacks.kills", 5, "how often TestAttackKilled kills a process")
	killSeed = flag.Uint64("attacks.killseed", 1, "of the moments")
)

// TestAttackKilled: kill -9 at any moment of a look leaves what was current, or what is
// new, and the next look succeeds.
func TestAttackKilled(t *testing.T) {
	u, one, two := attacked(t)
	large := strings.Repeat("module of obfs4 3", 100_000)
	three := two.fork()
	three.rotate(map[string][]*key{metadata.TIMESTAMP: newKeys(t, "timestamp2")})
	three.addFile("obfs4.wasm", `{"transport":"obfs4","version":"3"}`, large)
	three.publish()
	dir := tempDir(t)
	three.save(dir)
	k := task{State: u.state, Mirror: dir, Root: one.files["1.root.json"]}
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	known := map[string]string{content("obfs4", "1"): "old:", large: "new:"}
	length, killed := time.Duration(0), map[string]int{}
	for n := range *kills + 1 {
		must(t, os.RemoveAll(u.state))
		copyDir(t, u.state, followed)
		must(t, os.Remove(filepath.Join(u.store.Dir(), "looking")))
		c := k.command(t)
		must(t, c.Start())
		awaitLook(t, u, c)
		if n == 0 { // how long a look takes
			began := time.Now()
			must(t, c.Wait())
			length = time.Since(began)
			continue
		}
		time.Sleep(time.Duration(rng.Int64N(int64(length))))
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
		state, ok := known[u.runs("obfs4")]
		if !ok {
			t.Fatalf("kill %d: obfs4 is neither the old version nor the new one", n)
		}
		killed[state+u.progress()]++
		if out, err := k.command(t).CombinedOutput(); err != nil {
			t.Fatalf("kill %d: the next look fails: %v: %s", n, err, out)
		}
		if u.runs("obfs4") != large {
			t.Fatalf("kill %d: the next look has not taken the new version", n)
		}
	}
	t.Log(killed)
}

// progress says how far a look has come, by what it has left.
func (u *user) progress() (text string) {
	for _, pattern := range []string{"metadata/*.tmp", "metadata/2.root.json", "metadata/timestamp.json", "partial/*", "modules.json*.tmp"} {
		if found, _ := filepath.Glob(filepath.Join(u.store.Dir(), pattern)); len(found) > 0 {
			text += " " + pattern
		}
	}
	return text
}

// awaitLook waits until a process looks, or has ended.
func awaitLook(t *testing.T, u *user, c *exec.Cmd) {
	t.Helper()
	for {
		if _, err := os.Stat(filepath.Join(u.store.Dir(), "looking")); err == nil {
			return
		}
		if err := c.Process.Signal(syscall.Signal(0)); err != nil {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// TestAttackEveryStep: a look that ends at any step, because a file cannot be put in its
// place, leaves what was current, and the next look succeeds. It is TestAttackKilled with
// each moment once.
func TestAttackEveryStep(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"metadata/2.root.json", "metadata/root.json", "metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json",
		"offered.json", "modules.json", "look.json", "modules/*", "partial/*",
	} {
		t.Run(strings.ReplaceAll(file, "/", " "), func(t *testing.T) {
			u, _, two := attacked(t)
			two.rotate(map[string][]*key{metadata.SNAPSHOT: newKeys(t, "snapshot2")})
			two.publish()
			for name := range two.files {
				if sum, _, ok := strings.Cut(strings.TrimPrefix(name, "targets/"), ".obfs4.wasm"); ok && string(two.files[name]) == content("obfs4", "2") {
					file = strings.ReplaceAll(file, "modules/*", "modules/"+sum+".wasm")
					file = strings.ReplaceAll(file, "partial/*", "partial/"+sum)
				}
			}
			place := filepath.Join(u.store.Dir(), filepath.FromSlash(file))
			_, err := os.Stat(place)
			restore := func() { must(t, os.RemoveAll(place)) }
			if err == nil {
				restore = replaceByFolder(t, place)
			} else {
				must(t, os.MkdirAll(filepath.Join(place, "full"), 0o700))
			}
			_ = u.update(two.files)
			if file != "modules.json" { // without it nothing is known to be here
				if got := u.runs("obfs4"); got != content("obfs4", "1") && got != content("obfs4", "2") {
					t.Errorf("obfs4 is %q", got)
				}
			}
			if _, err := os.Stat(filepath.Join(place, "full")); err == nil {
				restore()
			}
			u.recovers(two)
		})
	}
}

// TestAttackTwoProcesses: processes that look into one state directory at once, and note
// what works, spoil nothing.
func TestAttackTwoProcesses(t *testing.T) {
	u, one, two := attacked(t)
	dirs := []string{tempDir(t), tempDir(t)}
	for n, r := range []*repo{one, two} {
		r.save(dirs[n])
	}
	var wg sync.WaitGroup
	for n := range 4 {
		c := task{State: u.state, Mirror: dirs[n/2], Root: one.files["1.root.json"], Times: 3}.command(t)
		wg.Go(func() {
			out, err := c.CombinedOutput()
			if err != nil && !strings.Contains(string(out), "bad version number") { // the older one came later
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got := u.runs("obfs4"); got != content("obfs4", "1") && got != content("obfs4", "2") {
				t.Errorf("obfs4 is %q", got)
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	reader.Wait()
	u.recovers(two)
}

// TestAttackDiskFull: a disk that is full at any step leaves what was current, and the next
// look with room succeeds. No file of a look gets larger than so many bytes.
func TestAttackDiskFull(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{1, 300, 700, 1500, 5000, 50_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			u, one, two := attacked(t)
			large := strings.Repeat("module of obfs4 3", 10_000)
			two.rotate(map[string][]*key{metadata.TIMESTAMP: newKeys(t, "timestamp2")})
			two.addFile("obfs4.wasm", `{"transport":"obfs4","version":"3"}`, large)
			two.publish()
			dir := tempDir(t)
			two.save(dir)
			k := task{State: u.state, Mirror: dir, Root: one.files["1.root.json"], FileSize: size}
			out, err := k.command(t).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "file too large") {
				t.Errorf("%v: %s", err, out)
			}
			u.still("1")
			for _, dir := range []string{".", "metadata", "partial", "modules"} {
				entries, err := os.ReadDir(filepath.Join(u.store.Dir(), dir))
				must(t, err)
				for _, e := range entries {
					if info, err := e.Info(); err == nil && (strings.HasSuffix(e.Name(), ".tmp") || dir == "partial") && info.Size() > 0 {
						t.Errorf("%s/%s is left", dir, e.Name())
					}
				}
			}
			k.FileSize = 0
			if out, err := k.command(t).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if u.runs("obfs4") != large {
				t.Error("the next look has not taken the new version")
			}
		})
	}
}

// TestAttackTamperedCache: whatever is changed in the state directory between two uses, a
// module is what was signed or is not loaded, and the next look mends it.
func TestAttackTamperedCache(t *testing.T) {
	t.Parallel()
	write := func(text string) func(string) error {
		return func(file string) error { return os.WriteFile(file, []byte(text), 0o600) }
	}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("precious"), 0o600))
	ways := map[string]func(file string) error{
		"removed":          os.Remove,
		"empty":            func(file string) error { return os.Truncate(file, 0) },
		"cut":              func(file string) error { return os.Truncate(file, 10) },
		"huge":             func(file string) error { return os.Truncate(file, 1<<40) },
		"other":            write("module 0f obfs4 1"),
		"null":             write("null"),
		"nulls":            write(`{"modules":{"obfs4":null},"signed":null,"signatures":null}`),
		"senseless":        write(`{"modules":{"obfs4":{"current":{"transport":"plain","sha256":"../../x"}}},"checked":"2999-01-01T00:00:00Z","rooted":"2999-01-01T00:00:00Z","expires":"2999-01-01T00:00:00Z"}`),
		"deep":             write(strings.Repeat("[", 100_000)),
		"link":             func(file string) error { return errors.Join(os.Remove(file), os.Symlink(outside, file)) },
		"loop":             func(file string) error { return errors.Join(os.Remove(file), os.Symlink(file, file)) },
		"FIFO":             func(file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
		"others may write": func(file string) error { return os.Chmod(file, 0o666) },
	}
	for _, file := range []string{"module", "modules.json", "look.json", "offered.json", "metadata/root.json", "metadata/1.root.json", "metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json"} {
		for how, change := range ways {
			if how != "other" && how != "link" && strings.HasPrefix(file, "metadata") && !strings.HasSuffix(file, "timestamp.json") {
				continue // they are read in one way
			}
			if how == "huge" && file != "module" && file != "modules.json" {
				continue // reading takes time
			}
			t.Run(strings.ReplaceAll(file, "/", " ")+"/"+how, func(t *testing.T) {
				u, _, two := attacked(t)
				i, err := u.store.Index()
				must(t, err)
				place := filepath.Join(u.store.Dir(), filepath.FromSlash(file))
				if file == "module" {
					place = u.store.ModuleFile(i.Best("obfs4"))
				}
				must(t, change(place))
				u.loadsOnlySigned()
				_ = u.update(two.files)
				u.loadsOnlySigned()
				u.recovers(two)
				if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
					t.Errorf("what a link led to is %q, %v", text, err)
				}
			})
		}
	}
}

// loadsOnlySigned fails the test if a module can be loaded that was not signed. It may be
// that none can.
func (u *user) loadsOnlySigned() {
	u.t.Helper()
	i, err := u.store.Index()
	if err != nil {
		return
	}
	for _, name := range i.Names() {
		wasm, err := u.store.Load(i.Best(name))
		if err == nil && !strings.HasPrefix(string(wasm), "module of "+name) {
			u.t.Errorf("%s is %q", name, wasm)
		}
	}
}

// TestAttackTamperedMetadata: metadata of an attacker's in the place of what was verified
// is not believed, though it goes together.
func TestAttackTamperedMetadata(t *testing.T) {
	u, one, two := attacked(t)
	forged := one.fork()
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		forged.keys[role] = newKeys(t, "mallory1"+role, "mallory2"+role)
	}
	forged.setKeys(2)
	forged.root.Signed.Version++
	forged.writeRoot(forged.keys[metadata.ROOT])
	forged.addFile("obfs4.wasm", "", evil)
	forged.publish()
	for name, data := range map[string][]byte{
		"root.json": forged.files["2.root.json"], "2.root.json": forged.files["2.root.json"], "timestamp.json": forged.files["timestamp.json"],
		"snapshot.json": forged.files["2.snapshot.json"], "targets.json": forged.files["2.targets.json"],
	} {
		must(t, os.WriteFile(filepath.Join(u.store.Dir(), "metadata", name), data, 0o600))
	}
	if err := u.update(forged.files); err == nil {
		t.Error("it is believed")
	}
	u.onlyVerified()
	u.still("1")
	for _, name := range []string{"root.json", "2.root.json"} { // what the error asks for
		must(t, os.Remove(filepath.Join(u.store.Dir(), "metadata", name)))
	}
	u.recovers(two)
}

// TestAttackRemovedRoot: a root that is kept and cannot be verified, because one before it
// has been removed, is neither believed nor left for the older one.
func TestAttackRemovedRoot(t *testing.T) {
	u, _, two := attacked(t)
	two.rotate(nil)
	two.rotate(map[string][]*key{metadata.TARGETS: newKeys(t, "targets3")})
	two.publish()
	u.recovers(two)
	must(t, os.Remove(filepath.Join(u.store.Dir(), "metadata", "2.root.json")))
	u.refuses("version 2 is not there", two.files)
	must(t, os.RemoveAll(filepath.Join(u.store.Dir(), "metadata"))) // part of what the error asks for
	u.take(two.files)
	u.still("2")
}

// TestAttackPartial: what is in the place of a module that is on its way is not followed,
// waited for or used.
func TestAttackPartial(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("precious"), 0o600))
	for how, place := range map[string]func(file string) error{
		"link":   func(file string) error { return os.Symlink(outside, file) },
		"FIFO":   func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"folder": func(file string) error { return os.MkdirAll(filepath.Join(file, "full"), 0o700) },
		"bytes":  func(file string) error { return os.WriteFile(file, []byte(evil), 0o600) },
		"all":    func(file string) error { return os.WriteFile(file, []byte("module 0f obfs4 2"), 0o600) },
		"more":   func(file string) error { return os.WriteFile(file, make([]byte, 1<<20), 0o600) },
	} {
		t.Run(how, func(t *testing.T) {
			u, _, two := attacked(t)
			sum := filepath.Base(targetFile("obfs4.wasm", content("obfs4", "2")))
			must(t, place(filepath.Join(u.store.Dir(), "partial", strings.TrimSuffix(sum, ".obfs4.wasm"))))
			m := serve(t, two.files, patient, nil)
			u.take(m)
			u.still("2")
			if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
				t.Errorf("what a link led to is %q, %v", text, err)
			}
		})
	}
	t.Run("left over", func(t *testing.T) { // beginnings of versions that never came do not add up
		u, _, two := attacked(t)
		file := filepath.Join(u.store.Dir(), "partial", strings.Repeat("0", 64))
		must(t, os.WriteFile(file, []byte(evil), 0o600))
		u.take(two.files)
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	})
}
