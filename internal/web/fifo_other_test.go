//go:build !unix

package web

import "testing"

// makeFIFO makes nothing: there are no FIFOs among files here.
func makeFIFO(*testing.T, string) {}
