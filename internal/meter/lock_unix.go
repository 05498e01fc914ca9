//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package meter

import (
	"os"

	"golang.org/x/sys/unix"
)

// errLocked means that another process has the lock.
const errLocked = unix.EWOULDBLOCK

// tryLock locks a file or directory until it is closed.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
