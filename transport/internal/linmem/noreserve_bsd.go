//go:build freebsd || dragonfly

package linmem

// noReserve does not exist here: the kernel always overcommits.
const noReserve = 0
