// Package userfile reads files and directories that a user names, within bounds of kind,
// size and time: a FIFO, a device, a huge file or a file system that hangs is an error,
// and holds nothing up.
package userfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// The largest files that are read, in bytes.
const (
	MaxModule = 64 << 20 // a WebAssembly module
	// MaxSettings is for NAME.toml, whose parser takes time that grows with the square of its
	// tables.
	MaxSettings = 32 << 10
	MaxConfig   = 1 << 20 // a module's configuration
)

// maxEntries is how many entries a directory may have.
const maxEntries = 10_000

// timeout is how long a file or a directory may take. tor waits for all transports before
// it uses one.
const timeout = 10 * time.Second

// ErrTooLarge means that a file has more bytes, or a directory more entries, than are read.
var ErrTooLarge = errors.New("too large")

// Read returns the content of a regular file of at most limit bytes. The error names the
// file.
func Read(name string, limit int64) ([]byte, error) {
	return within(timeout, name, func() ([]byte, error) { return read(name, limit) })
}

// ReadDir returns the entries of a directory, in no order. The error names the directory.
func ReadDir(name string) ([]fs.DirEntry, error) {
	return within(timeout, name, func() ([]fs.DirEntry, error) { return readDir(name) })
}

// within calls f, and waits no longer than limit for it. One that hangs goes on: the
// system has no way to end it.
func within[T any](limit time.Duration, name string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-late.C:
		var none T
		return none, fmt.Errorf("%s: not read within %v: its file system or device does not answer: %w", name, limit, os.ErrDeadlineExceeded)
	}
}

func read(name string, limit int64) ([]byte, error) {
	f, info, err := open(name, 0, "a regular file")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, tooLarge(name, limit)
	}
	// It may grow meanwhile, and files of /proc have no size.
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		return nil, tooLarge(name, limit)
	}
	return content, err
}

func tooLarge(name string, limit int64) error {
	return fmt.Errorf("%s is %w: it has more than %d bytes", name, ErrTooLarge, limit)
}

func readDir(name string) ([]fs.DirEntry, error) {
	f, _, err := open(name, fs.ModeDir, "a directory")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) { // it is empty
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%s is %w: it has more than %d entries", name, ErrTooLarge, maxEntries)
	}
	return entries, nil
}

// open opens what is of one type. Anything else is not even opened if it can be helped:
// that alone may block, or have an effect.
func open(name string, want fs.FileMode, noun string) (f *os.File, info fs.FileInfo, err error) {
	check := func(info fs.FileInfo) error {
		if info.Mode().Type() != want {
			return fmt.Errorf("%s is %s, not %s", name, kind(info.Mode()), noun)
		}
		return nil
	}
	if info, err = os.Stat(name); err == nil {
		err = check(info)
	}
	if err != nil {
		return nil, nil, err
	}
	if f, err = os.OpenFile(name, os.O_RDONLY|openFlags, 0); err != nil {
		return nil, nil, err
	}
	// Something else may have the name by now.
	if info, err = f.Stat(); err == nil {
		err = check(info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// kind names what is not what it should be.
func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "a file"
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}
