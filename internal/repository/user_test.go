package repository_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"waterproxy/internal/mirror"
	"waterproxy/internal/repository"
)

// ctx is short for what every method of a mirror takes.
type ctx = context.Context

// files are a mirror: by path, what it has.
type files map[string][]byte

func (f files) String() string { return "the files" }
func (f files) Close() error   { return nil }

func (f files) Get(_ context.Context, file string, limit int64) ([]byte, error) {
	data, ok := f[file]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: %w", file, mirror.ErrNotFound)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("%s: %w", file, mirror.ErrTooLarge)
	}
	return data, nil
}

func (f files) Resume(ctx context.Context, file string, to *os.File, length int64) error {
	data, err := f.Get(ctx, file, length)
	if err == nil {
		err = to.Truncate(0)
	}
	if err == nil {
		_, err = to.WriteAt(data, 0)
	}
	return err
}

// user is somebody who follows a repository.
type user struct {
	t     testing.TB
	state string
	store *repository.Store
	o     repository.Options
	log   *lines
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newUser returns a user who has nothing but the first root of a repository.
func newUser(t testing.TB, r *repo) *user {
	t.Helper()
	state := tempDir(t)
	log := &lines{}
	return &user{t, state, repository.New(state), repository.Options{
		Root: r.files["1.root.json"], Waterproxy: "1.0.0", Now: day0.Add(day), Log: slog.New(slog.NewTextHandler(log, nil)),
	}, log}
}

// tempDir is a directory in memory, if the system has one: nothing waits for a disk there.
func tempDir(t testing.TB) string {
	t.Helper()
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "waterproxy-attacks-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func copyDir(t testing.TB, to, from string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		copied := filepath.Join(to, strings.TrimPrefix(name, from))
		if d.IsDir() {
			return os.MkdirAll(copied, 0o700)
		}
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(copied, data, 0o600)
		}
		return err
	}))
}

// update looks for news.
func (u *user) update(mirrors ...mirror.Mirror) error {
	u.t.Helper()
	o := u.o
	o.Mirrors = mirrors
	_, err := u.store.Update(u.t.Context(), o)
	return err
}

// take looks for news, which must succeed, and finds that what is new works.
func (u *user) take(mirrors ...mirror.Mirror) {
	u.t.Helper()
	if err := u.update(mirrors...); err != nil {
		u.t.Fatalf("an honest repository is refused: %v", err)
	}
	u.accept()
}

func (u *user) accept() {
	u.t.Helper()
	i, err := u.store.Index()
	must(u.t, err)
	for _, name := range i.Names() {
		must(u.t, u.store.Accept(u.t.Context(), i.Best(name)))
	}
}

// runs returns the module that a transport's name stands for, "" for none. Whatever is
// named as the best version, and as the current one, has to be loadable.
func (u *user) runs(name string) string {
	u.t.Helper()
	i, err := u.store.Index()
	must(u.t, err)
	best := i.Best(name)
	if best == nil {
		return ""
	}
	if current := i.Modules[name].Current; current != nil {
		if _, err := u.store.Load(current); err != nil {
			u.t.Errorf("what is current of %s cannot be loaded: %v", name, err)
		}
	}
	wasm, err := u.store.Load(best)
	if err != nil {
		u.t.Errorf("what is best of %s cannot be loaded: %v", name, err)
	}
	return string(wasm)
}

// still fails the test unless obfs4 is what it was.
func (u *user) still(version string) {
	u.t.Helper()
	if got := u.runs("obfs4"); got != content("obfs4", version) {
		u.t.Errorf("obfs4 is %q, want version %s", got, version)
	}
}

// refuses looks for news of an attacker's, who must not get anywhere: there is an error
// with the text, and obfs4 is what it was.
func (u *user) refuses(text string, mirrors ...mirror.Mirror) {
	u.t.Helper()
	before := u.runs("obfs4")
	wantError(u.t, u.update(mirrors...), text)
	if got := u.runs("obfs4"); got != before {
		u.t.Errorf("obfs4 is %q, and was %q", got, before)
	}
	u.onlyVerified()
}

// onlyVerified fails the test if there is a module that no honest repository has signed.
func (u *user) onlyVerified() {
	u.t.Helper()
	entries, err := os.ReadDir(filepath.Join(u.store.Dir(), "modules"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(u.store.Dir(), "modules", e.Name()))
		must(u.t, err)
		if !strings.HasPrefix(string(text), "module of ") {
			u.t.Errorf("there is a module %s with %.50q", e.Name(), text)
		}
	}
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want %q", err, text)
	}
}

// replaceByFolder puts a folder that is not empty in the place of a file, which cannot be
// removed or replaced then, until restore.
func replaceByFolder(t testing.TB, file string) (restore func()) {
	t.Helper()
	must(t, os.Rename(file, file+".aside"))
	must(t, os.MkdirAll(filepath.Join(file, "full"), 0o700))
	return func() {
		t.Helper()
		must(t, os.RemoveAll(file))
		must(t, os.Rename(file+".aside", file))
	}
}
