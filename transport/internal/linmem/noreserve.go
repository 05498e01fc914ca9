//go:build unix && !freebsd && !dragonfly

package linmem

import "golang.org/x/sys/unix"

// noReserve keeps the kernel from counting address space as memory.
const noReserve = unix.MAP_NORESERVE
