package guest

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

// Quota bounds the files that a module keeps in its state directory, for all instances
// together.
type Quota struct {
	Bytes int64 // of all files
	Files int   // and directories

	mu      sync.Mutex
	bytes   int64 // at most so many: those of the last count, and what came since
	files   int
	counted time.Time // zero: never
	open    map[*file]struct{}
}

// opened and closed note which files are open: one that has been removed keeps what it has.
func (q *Quota) opened(f *file) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[*file]struct{}{}
	}
	q.open[f] = struct{}{}
}

func (q *Quota) closed(f *file) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, f)
}

// recount is how often the files are counted at most: what has been removed since shows
// then alone.
const recount = time.Second

// admit reports whether so much may be added to a tree.
func (q *Quota) admit(t *tree, bytes int64, files int) bool {
	if q == nil {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	fits := func() bool { return bytes <= q.Bytes-q.bytes && files <= q.Files-q.files }
	if q.counted.IsZero() || !fits() && time.Since(q.counted) > recount {
		q.count(t)
	}
	if !fits() {
		return false
	}
	q.bytes += bytes
	q.files += files
	return true
}

// count counts the files that there are for the module.
func (q *Quota) count(t *tree) {
	q.bytes, q.files, q.counted = 0, 0, time.Now()
	// What cannot be read is not counted: it is none that the module could add to.
	_ = fs.WalkDir(t.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return nil
		case q.files > q.Files: // there is no more to know
			return fs.SkipAll
		case t.has(name):
			q.files++
			if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
				q.bytes += info.Size()
			}
		case entry.IsDir(): // another one's
			return fs.SkipDir
		}
		return nil
	})
	for f := range q.open {
		info, err := f.f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if there, err := t.root.Lstat(f.name); err != nil || !os.SameFile(there, info) {
			q.bytes += info.Size() // it is nowhere, or elsewhere and counts twice
			q.files++
		}
	}
}

// grow reports whether the file may have what ends at a place. The lock is held.
func (f *file) grow(end int64) bool {
	if f.tree.quota == nil || f.tree.root == nil {
		return true
	}
	info, err := f.f.Stat()
	return err == nil && f.tree.quota.admit(f.tree, max(0, end-info.Size()), 0)
}

// create reports whether a file or directory may be made, if there is none.
func (t *tree) create(name string) bool {
	if t.quota == nil || t.root == nil {
		return true
	}
	if _, err := t.root.Lstat(name); !os.IsNotExist(err) {
		return true // whether it is there or out of reach, nothing is made
	}
	return t.quota.admit(t, 0, 1)
}
