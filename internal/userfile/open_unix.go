//go:build unix

package userfile

import "syscall"

// openFlags keep a FIFO from blocking.
const openFlags = syscall.O_NONBLOCK
