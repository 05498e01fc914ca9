package meter

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

// A socket's path belongs to the process that has bound it last. While one process
// drains, its successor takes the path over; so whoever removes it has to make sure
// that it still leads to its own socket, and that this stays true until it is gone.
// For that both hold a lock on the directory, which leaves no file behind. A process
// that does not get the lock removes nothing.

// boundName is the form of the name, relative to the directory of its path, under which
// a socket is bound.
const boundName = ".0000/s"

// lockPatience is how long to wait for the lock of a directory. Processes of this
// program hold it for microseconds; another program may hold it for ever.
const lockPatience = time.Second

// lockPause is the time between two attempts to lock a directory.
const lockPause = 5 * time.Millisecond

// socket is a listener at a path, which its Close removes unless it leads elsewhere.
type socket struct {
	*net.UnixListener
	path string
	own  os.FileInfo
}

// listenUnix binds a socket that is open to its owner only, from its first moment on,
// and puts it in the place of a socket that an earlier process has left or still serves.
// Without a pause there is one at the path.
func listenUnix(path string) (*socket, error) {
	dir, err := privateDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // it is empty now, or holds what is of no use
	return bind(filepath.Join(dir, filepath.Base(boundName)), path)
}

// bind binds a socket at one path and moves it to another.
func bind(from, to string) (*socket, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: from, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it would remove whatever is at the path by then
	s := &socket{UnixListener: l, path: to}
	err = os.Chmod(from, 0o600)
	if err == nil {
		s.own, err = os.Lstat(from)
	}
	if err == nil {
		err = replace(from, to)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// replace moves a socket to a path at which there is nothing or a socket.
func replace(from, to string) error {
	// Whoever keeps the lock for longer than lockPatience is no process of this program,
	// and those do not remove anything without it.
	if unlock, err := lockDir(filepath.Dir(to)); err == nil {
		defer unlock()
	}
	info, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s exists and is no socket", to)
	}
	return os.Rename(from, to)
}

// Close removes the path if it still leads to this socket, and closes the listener.
func (s *socket) Close() error { return errors.Join(s.remove(), s.UnixListener.Close()) }

// remove removes the path unless it leads elsewhere. The listener must still be open:
// the system may give the number of a closed socket's inode to another one.
func (s *socket) remove() error {
	unlock, err := lockDir(filepath.Dir(s.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the directory is gone, with all that was in it
	}
	if err != nil {
		return fmt.Errorf("the socket is left for the next process to replace: %w", err)
	}
	defer unlock()
	info, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, s.own) {
		return nil
	}
	return errors.Join(err, os.Remove(s.path))
}

// privateDir makes a directory for this user alone, with a short name: the path of a
// socket must not be long.
func privateDir(parent string) (dir string, err error) {
	for range 100 {
		dir = filepath.Join(parent, fmt.Sprintf(".%04x", rand.N(1<<16)))
		if err = os.Mkdir(dir, 0o700); err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // the name means nothing to the user
	}
	return "", fmt.Errorf("make a socket in %s: %w", parent, err)
}

// lockDir locks a directory until unlock is called.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		if err = tryLock(f); err == nil {
			return func() { _ = f.Close() }, nil // which ends the lock
		}
		if time.Now().After(end) || !errors.Is(err, errLocked) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		}
	}
}
