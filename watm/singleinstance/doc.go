//go:build !wasip1

package singleinstance
