//go:build unix

package linmem

import (
	"golang.org/x/sys/unix"
)

// reserve maps size bytes of address space. The kernel provides pages when they
// are touched, so an instance costs what it uses.
func reserve(size uint64) ([]byte, error) {
	return unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
}

func release(b []byte) { _ = unix.Munmap(b) }
