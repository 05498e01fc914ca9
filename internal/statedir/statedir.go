// Package statedir makes, checks, reads and writes what waterproxy itself keeps on disk
// between its processes. Every file is of a private directory, whole or absent, and read
// with bounds.
package statedir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Make makes a directory, and those above it, with mode 0700 if they do not exist.
func Make(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if info, statErr := os.Lstat(dir); err != nil && statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link that does not lead to a directory", dir)
	}
	return err
}

// MakePrivate is Make and [CheckPrivate].
func MakePrivate(dir string) error {
	if err := Make(dir); err != nil {
		return err
	}
	return CheckPrivate(dir)
}

// Try writes a small file into dir and removes it, after it has made dir if it did not
// exist. The error is why nothing can be kept there.
func Try(dir string) error {
	err := Make(dir)
	if err == nil {
		err = try(dir)
	}
	// The name of the file would be of no use to anyone.
	if p, ok := errors.AsType[*fs.PathError](err); ok && p.Path != dir {
		return fmt.Errorf("%s in %s: %w", p.Op, dir, p.Err)
	}
	return err
}

func try(dir string) error {
	f, err := os.CreateTemp(dir, "try.*"+tempSuffix)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 8<<10)) // more than a file system keeps beside a file's name
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Open opens a file for reading. It must be a regular file, belong to this user and be
// writable by no other. The caller closes it.
func Open(name string) (*os.File, error) { return open(name, os.O_RDONLY) }

// OpenAppend is Open for a file that is read and appended to; it is made, with mode
// 0600, if it does not exist.
func OpenAppend(name string) (*os.File, error) {
	return open(name, os.O_CREATE|os.O_RDWR|os.O_APPEND)
}

func open(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", name)
	default:
		err = checkOwn(name, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadFile reads what WriteFile has written. A file of more than limit bytes is an error.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return text, err
}

// IsShortage reports whether a file could not be opened or read for a reason that is not
// the file's.
func IsShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// tempSuffix ends the names of files that are being written. One that is older than
// tempAge is what a killed process has left.
const (
	tempSuffix = ".tmp"
	tempAge    = time.Hour
)

// WriteFile puts a file with mode 0600 in the place of what has the name, unless that is
// a directory. At any moment, and after a crash, the name stands for the old content or
// for all of the new one.
func WriteFile(name string, data []byte) error {
	dir := filepath.Dir(name)
	if err := removeOldTemps(dir); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, filepath.Base(name)+".*"+tempSuffix)
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = Rename(temp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// Rename is os.Rename within a file system, and waits until the new name outlasts a crash.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func removeOldTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), tempSuffix) || time.Since(info.ModTime()) < tempAge {
			continue // an error: another process has removed it
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
