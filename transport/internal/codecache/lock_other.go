//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package codecache

import (
	"errors"
	"os"
)

// lock locks a directory where there are locks on directories.
func lock(string) (*os.File, error) { return nil, errors.ErrUnsupported }
