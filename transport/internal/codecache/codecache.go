// Package codecache keeps compiled code between processes. wazero believes whatever it
// finds in its cache directory; so what is kept has a checksum over all of it, and wazero
// is given scratch directories in which there is nothing but what has just been checked.
package codecache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/statedir"
)

// What is kept: entries that have been used within maxAge, and of these the maxEntries
// that were used last. Entries of other versions are among those that are not used.
const (
	maxAge     = 30 * 24 * time.Hour
	maxEntries = 64
	// usedWithin is how exactly the time of the last use is known.
	usedWithin = 24 * time.Hour
)

// oldLayout begins the names of the directories that wazero itself makes.
const oldLayout = "wazero-"

// Store is a directory with compiled code. It is safe for concurrent use, by several
// processes as well.
//
// An entry is a file ID-NAME-SUM: a hash of what was compiled, and how; the name that
// wazero gave to the file, or preparedName; the SHA-256 of its content. It is whole from
// the moment at which it has that name.
type Store struct{ dir string }

// Entry is a file of a Store.
type Entry struct {
	name string // of the file
	code string // wazero's own name
	sum  string // hexadecimal SHA-256
}

// preparedName stands in the names of entries that hold a module as it is compiled.
const preparedName = "prepared"

var entryName = regexp.MustCompile(`^([0-9a-f]{12})-([0-9a-f]{64}|` + preparedName + `)-([0-9a-f]{64})$`)

// parseEntry reads the name of an entry's file.
func parseEntry(name string) (e Entry, id string, ok bool) {
	m := entryName.FindStringSubmatch(name)
	if m == nil {
		return e, "", false
	}
	return Entry{name: name, code: m[2], sum: m[3]}, m[1], true
}

// ID identifies what is compiled and how. It is short, because file names are: if two
// modules have the same, wazero does not find its own name and compiles.
func ID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q\n", p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Open returns the Store in a directory, which it makes if it does not exist, and which
// must be private: what is in it is executed. It removes what killed processes have
// left.
func Open(dir string) (*Store, error) {
	if err := statedir.MakePrivate(dir); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), oldLayout) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	if err := s.removeScratches(entries); err != nil {
		return nil, err
	}
	return s, nil
}

// Find returns an intact entry with that ID, if there is one. Those that are not intact
// it removes and returns in damaged, one error each.
func (s *Store) Find(id string) (found Entry, ok bool, damaged []error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return found, false, nil // then nothing can be written either, which is reported
	}
	for _, file := range entries {
		e, of, isEntry := parseEntry(file.Name())
		if !isEntry || of != id {
			continue
		}
		switch err := s.check(e); {
		case err == nil:
			s.touch(e)
			return e, true, damaged
		case errors.Is(err, fs.ErrNotExist), statedir.IsShortage(err): // another process has removed it
		default:
			damaged = append(damaged, errors.Join(err, s.Remove(e)))
		}
	}
	return found, false, damaged
}

func (s *Store) path(e Entry) string { return filepath.Join(s.dir, e.name) }

// check returns nil if an entry is intact.
func (s *Store) check(e Entry) error {
	f, err := statedir.Open(s.path(e))
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := hash(f)
	if err == nil && sum != e.sum {
		err = fmt.Errorf("the content of %s does not have the checksum in its name", s.path(e))
	}
	return err
}

func hash(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// touch notes that an entry is used.
func (s *Store) touch(e Entry) {
	info, err := os.Lstat(s.path(e))
	if err == nil && time.Since(info.ModTime()) > usedWithin {
		now := time.Now()
		// If it fails the entry is removed sooner than it might be.
		_ = os.Chtimes(s.path(e), now, now)
	}
}

// Remove removes an entry.
func (s *Store) Remove(e Entry) error { return os.RemoveAll(s.path(e)) }

// Add moves a file of wazero's into the Store. The file is in a scratch directory.
func (s *Store) Add(id, file string) (Entry, error) {
	f, err := statedir.Open(file)
	if err != nil {
		return Entry{}, err
	}
	sum, err := hash(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Entry{}, err
	}
	e, _, ok := parseEntry(id + "-" + filepath.Base(file) + "-" + sum)
	if !ok {
		return e, fmt.Errorf("%s does not have a name of wazero's", file)
	}
	if err := statedir.Rename(file, s.path(e)); err != nil {
		return e, err
	}
	return e, s.prune()
}

// AddPrepared keeps a module as it is compiled.
func (s *Store) AddPrepared(id string, content []byte) (err error) {
	scratch := s.NewScratch()
	release, err := scratch.Use()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	file := filepath.Join(scratch.Dir, preparedName)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	_, err = s.Add(id, file)
	return err
}

// Read returns the content of an entry that AddPrepared has made.
func (s *Store) Read(e Entry) ([]byte, error) { return os.ReadFile(s.path(e)) }

// Put puts an entry into a directory under wazero's own name.
func (s *Store) Put(e Entry, dir string) (file string, err error) {
	file = filepath.Join(dir, e.code)
	if err := os.Link(s.path(e), file); err == nil || errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	// There are file systems without links.
	return file, copyFile(s.path(e), file)
}

func copyFile(from, to string) error {
	in, err := statedir.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// prune removes the entries that are not to be kept.
func (s *Store) prune() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	type used struct {
		entry Entry
		last  time.Time
	}
	var all []used
	for _, file := range files {
		e, _, ok := parseEntry(file.Name())
		if info, err := file.Info(); ok && err == nil { // an error: another process has removed it
			all = append(all, used{e, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b used) int { return cmp.Compare(b.last.UnixNano(), a.last.UnixNano()) })
	for i, u := range all {
		if i < maxEntries && time.Since(u.last) < maxAge {
			continue
		}
		if err := s.Remove(u.entry); err != nil {
			return err
		}
	}
	return nil
}
