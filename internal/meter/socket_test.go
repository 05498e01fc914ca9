package meter

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// serveAt serves the figures of one transport at a path.
func serveAt(t *testing.T, path, transport string) (stop func()) {
	t.Helper()
	m := New()
	m.Offer(transport, &source{})
	stop, err := m.Serve("unix:"+path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

// answers returns the transport of the process that can be asked at a path.
func answers(t *testing.T, path string) string {
	t.Helper()
	rows, err := Read(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	return rows[0].Transport
}

// checkEmpty checks that there is nothing left in a socket's directory.
func checkEmpty(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) > 0 {
		t.Errorf("what is left: %v, %v", entries, err)
	}
}

// A process that ends leaves its successor's socket alone, and takes its own away.
func TestSuccessor(t *testing.T) {
	path := tempSocket(t)
	stopOld := serveAt(t, path, "old")
	stopNew := serveAt(t, path, "new")
	stopOld()
	if got := answers(t, path); got != "new" {
		t.Errorf("%s answers", got)
	}
	stopNew()
	checkEmpty(t, path)
}

// Processes come and go, and there is a socket at the path at all times.
func TestSuccessors(t *testing.T) {
	path := tempSocket(t)
	stop := serveAt(t, path, "p")
	var asked sync.WaitGroup
	over := make(chan struct{})
	asked.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			// Whoever answers may end meanwhile; but there is a socket at all times.
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		var both sync.WaitGroup
		next := serveAt(t, path, "p")
		both.Go(stop)
		newest := serveAt(t, path, "p")
		both.Go(next)
		both.Wait()
		stop = newest
	}
	if got := answers(t, path); got != "p" {
		t.Errorf("%q answers", got)
	}
	close(over)
	asked.Wait()
	stop()
	checkEmpty(t, path)
}

// Two that start at once both run, and one of them can be asked.
func TestTwoAtOnce(t *testing.T) {
	for range 50 {
		path := tempSocket(t)
		stops := make(chan func(), 2)
		for i := range 2 {
			go func() { stops <- serveAt(t, path, fmt.Sprint(i)) }()
		}
		first, second := <-stops, <-stops
		answers(t, path)
		first()
		second()
		checkEmpty(t, path)
	}
}

// The socket is for its owner only, and what a killed process left is no obstacle.
func TestStaleSocket(t *testing.T) {
	path := tempSocket(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	stop := serveAt(t, path, "p")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v; want mode 0600", info, err)
	}
	answers(t, path)
	stop()
	checkEmpty(t, path)
}

// Nothing but a socket is replaced, or removed at the end.
func TestNotASocket(t *testing.T) {
	dir := t.TempDir()
	file, link, missing := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "missing")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(missing, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir, filepath.Join(file, "s"), filepath.Join(missing, "s")} {
		if s, err := listenUnix(path); err == nil {
			s.Close()
			t.Errorf("listening at %s", path)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file in the way is %q, %v", text, err)
	}

	path := filepath.Join(dir, "s")
	s, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "x" {
		t.Errorf("what has taken the socket's place is %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("what is left: %v, %v", entries, err)
	}
}

// The end does not wait for a lock that another program keeps, nor removes anything
// without it; the next start replaces what is left.
func TestForeignLock(t *testing.T) {
	path := tempSocket(t)
	s, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := s.Close(); err == nil {
		t.Error("the end had the lock")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	stop := serveAt(t, path, "next")
	defer stop()
	if got := answers(t, path); got != "next" {
		t.Errorf("%s answers", got)
	}
}

// A directory that is gone, as a service manager removes it, is no error.
func TestDirectoryGone(t *testing.T) {
	path := tempSocket(t)
	s, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The longest path that is not refused can be bound and asked.
func TestLongestPath(t *testing.T) {
	dir := filepath.Dir(tempSocket(t))
	parent := filepath.Join(dir, long(maxSocketPath-len(dir)-len("//metrics")))
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(parent, "metrics")
	if len(path) != maxSocketPath {
		t.Fatalf("%d bytes", len(path))
	}
	stop := serveAt(t, path, "p")
	defer stop()
	answers(t, path)
}
