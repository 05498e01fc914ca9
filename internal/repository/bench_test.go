package repository_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"testing"
	"time"

	"waterproxy/internal/mirror"
	"waterproxy/internal/program"
	"waterproxy/internal/publish"
	"waterproxy/internal/release"
	"waterproxy/internal/repository"
	"waterproxy/internal/repotest"
)

// The benchmark follows a repository of so many modules over HTTP, from a server in this
// process whose share is in the figures.
const benchModules = 1000

// benchmark is a repository behind a web server.
type benchmark struct {
	*repotest.Repository
	root []byte
	from mirror.Mirror
}

func newBenchmark(b *testing.B) benchmark {
	b.Helper()
	repo := repotest.New(b)
	at := time.Now().UTC().Truncate(time.Second)
	for n := range benchModules {
		r := release.Release{Transport: fmt.Sprintf("transport%d", n), Version: "1.0.0", ABI: "v1"}
		// Nobody looks into a module here.
		if err := publish.Open(repo.Dir).Add(r, fmt.Appendf(nil, "module %d", n), at, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	if missing, err := publish.Open(repo.Dir).Sign(repo.Keys); err != nil || len(missing) > 0 {
		b.Fatal(missing, err)
	}
	root, err := repository.ReadRoot(repo.Root)
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(repo.Dir)))
	b.Cleanup(server.Close)
	from, err := mirror.Open(server.URL, mirror.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { from.Close() })
	return benchmark{repo, root, from}
}

// look looks at the repository, for one transport.
func (m benchmark) look(b *testing.B, s *repository.Store) repository.News {
	b.Helper()
	news, err := s.Update(context.Background(), repository.Options{
		Root: m.root, Mirrors: []mirror.Mirror{m.from}, Names: []string{"transport500"},
		Waterproxy: program.Version, Now: time.Now().UTC(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return news
}

// BenchmarkLook looks at the repository: all of it, from its first root to a module, and
// when it has nothing new.
func BenchmarkLook(b *testing.B) {
	m := newBenchmark(b)
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			s := repository.New(b.TempDir())
			b.StartTimer()
			if news := m.look(b, s); len(news.Next) != 1 {
				b.Fatalf("%d modules are new", len(news.Next))
			}
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		s := repository.New(b.TempDir())
		news := m.look(b, s)
		if err := s.Accept(context.Background(), &news.Next[0]); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if news := m.look(b, s); len(news.Next) != 0 {
				b.Fatalf("%d modules are new", len(news.Next))
			}
		}
	})
}

// BenchmarkVerify verifies the metadata alone, which is here already, with the garbage
// collector as the process for a look has it.
func BenchmarkVerify(b *testing.B) {
	m := newBenchmark(b)
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		files, err := repository.Verify(b.Context(), dir, m.root, m.from)
		if err != nil || files != benchModules {
			b.Fatal(files, err)
		}
	}
}
