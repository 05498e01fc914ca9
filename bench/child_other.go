//go:build !linux

package main

import "syscall"

// childAttributes asks for nothing in particular.
func childAttributes() *syscall.SysProcAttr { return nil }

// raiseFileLimit does nothing: the limits of another process can be set on Linux
// only, and only there can its resources be accounted.
func raiseFileLimit(int) error { return nil }
