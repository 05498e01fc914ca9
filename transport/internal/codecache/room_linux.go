package codecache

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckRoom returns an error if the file system has less than that many bytes left. nil
// does not mean that they can be written: there are quotas, and other processes.
func (s *Store) CheckRoom(bytes int) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return err
	}
	if left := st.Bavail * uint64(st.Bsize); left < uint64(bytes) {
		return fmt.Errorf("the file system of %s has %d MiB left, and compiled code may take %d MiB", s.dir, left>>20, bytes>>20)
	}
	return nil
}
