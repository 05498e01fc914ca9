package codecache

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// scratchPrefix begins the names of scratch directories.
const scratchPrefix = "scratch-"

// scratchAge is how old a scratch directory must be to count as left over where there
// are no locks. It is longer than anything that is done in one.
const scratchAge = time.Hour

var errLocked = errors.New("it is locked")

// Scratch is a directory below a Store's for one user at a time: it is what wazero reads
// from and writes to. It exists, locked, only while it is used, so that what a killed
// process has left is recognized and removed by the next.
type Scratch struct {
	// Dir is the path of the directory. It stays the same from use to use.
	Dir string

	mu    sync.Mutex
	users int
	lock  *os.File // nil where there are no locks
}

// NewScratch returns a scratch directory that does not exist yet.
func (s *Store) NewScratch() *Scratch {
	return &Scratch{Dir: filepath.Join(s.dir, scratchPrefix+rand.Text())}
}

// Use makes the directory, unless it is in use already, and keeps it until release has
// been called as often as Use.
func (s *Scratch) Use() (release func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		if err := s.make(); err != nil {
			return nil, err
		}
	}
	s.users++
	return s.release, nil
}

// make makes the directory and locks it. Between the two another process may take it
// for a left-over.
func (s *Scratch) make() error {
	for range 10 {
		if err := os.Mkdir(s.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		held, err := lock(s.Dir)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case errors.Is(err, errLocked), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		}
		if isAt(held, s.Dir) {
			s.lock = held
			return nil
		}
		held.Close() // it has been removed
	}
	return fmt.Errorf("%s is removed again and again by another process", s.Dir)
}

// isAt reports whether an open file is still what its name stands for.
func isAt(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}

func (s *Scratch) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	err := os.RemoveAll(s.Dir)
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

// removeScratches removes the directories that killed processes have left.
func (s *Store) removeScratches(entries []fs.DirEntry) error {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), scratchPrefix) {
			continue
		}
		if err := removeScratch(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func removeScratch(dir string) error {
	held, err := lock(dir)
	switch {
	case errors.Is(err, errLocked):
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < scratchAge {
			return err
		}
		return os.RemoveAll(dir)
	case err != nil:
		return err
	}
	return errors.Join(os.RemoveAll(dir), held.Close())
}
