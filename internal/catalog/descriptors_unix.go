//go:build unix

package catalog

import "golang.org/x/sys/unix"

// descriptors returns how many descriptors the process may have; 0 if that is not known.
func descriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
