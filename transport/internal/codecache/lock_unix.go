//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package codecache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock locks a directory for as long as the file that it returns is open; a process that
// ends, however it ends, has no locks. The error is errLocked if there is another
// holder, and errors.ErrUnsupported where the file system has no locks on directories,
// as NFS.
func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close() // opened for reading: nothing is lost
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, errors.ErrUnsupported
}
