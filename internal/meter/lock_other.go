//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package meter

import (
	"errors"
	"os"
)

// errLocked means that another process has the lock.
var errLocked = errors.New("locked")

// tryLock has no way to lock a directory here.
func tryLock(*os.File) error { return errors.ErrUnsupported }
