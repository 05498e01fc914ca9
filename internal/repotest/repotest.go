// Package repotest makes repositories of modules for tests.
package repotest

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"waterproxy/internal/mirror"
	"waterproxy/internal/program"
	"waterproxy/internal/publish"
	"waterproxy/internal/release"
	"waterproxy/internal/repository"
)

// Repository is one that two of three keys sign.
type Repository struct {
	Dir  string
	Root string // its root file
	Keys []*publish.Key
	t    testing.TB
}

// New makes an empty repository that is published.
func New(t testing.TB) *Repository {
	t.Helper()
	dir := t.TempDir()
	r := &Repository{Dir: filepath.Join(dir, "repository"), t: t}
	r.Root = filepath.Join(r.Dir, "root.json")
	for _, name := range []string{"1.key", "2.key", "3.key"} {
		key, err := publish.NewKey(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Keys = append(r.Keys, key)
	}
	err := publish.Open(r.Dir).Init(publish.InitOptions{Threshold: 2, Keys: r.Keys, Now: now(), RootFor: time.Hour, Believe: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r.sign()
	return r
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func (r *Repository) sign() {
	r.t.Helper()
	missing, err := publish.Open(r.Dir).Sign(r.Keys[1:])
	if err != nil || len(missing) > 0 {
		r.t.Fatal(missing, err)
	}
}

// Publish publishes a version of a transport.
func (r *Repository) Publish(rel release.Release, wasm []byte) {
	r.t.Helper()
	if err := publish.Open(r.Dir).Add(rel, wasm, now(), time.Hour); err != nil {
		r.t.Fatal(err)
	}
	r.sign()
}

// Remove publishes the repository without a transport.
func (r *Repository) Remove(transport string) {
	r.t.Helper()
	if err := publish.Open(r.Dir).Remove(transport, now(), time.Hour); err != nil {
		r.t.Fatal(err)
	}
	r.sign()
}

// Update brings what is new to a store, where it waits for a trial.
func (r *Repository) Update(s *repository.Store, retry bool) (repository.News, error) {
	r.t.Helper()
	root, err := repository.ReadRoot(r.Root)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := mirror.Open(r.Dir, mirror.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer m.Close()
	return s.Update(context.Background(), repository.Options{
		Root: root, Mirrors: []mirror.Mirror{m}, Retry: retry, Waterproxy: program.Version, Now: time.Now().UTC(), Log: slog.New(slog.DiscardHandler),
	})
}
