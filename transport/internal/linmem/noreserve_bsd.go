//go:build freebsd || dragonfly

package linmem

// noReserve does not exist here: the kernel overcommits by itself.
const noReserve = 0
