//go:build wasip1

// Package singleinstance declares, by being imported, that there must be one
// instance of the module for all connections of a transport, because they share
// state that must not be split: a replay filter, say.
//
//	import _ "waterproxy/watm/singleinstance"
package singleinstance

//go:wasmexport watm_single_instance_v1
func marker() {}
