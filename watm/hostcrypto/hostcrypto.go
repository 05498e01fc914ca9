// Package hostcrypto is the cryptography that transports need, at the speed of the host.
//
// In a module that is built with the tag watm_hostcrypto, the host's native code works on
// the module's memory (water_crypto_v1, see docs/abi.md): five to twenty times as fast as
// the same code inside the module. Such a module runs only on hosts that offer that.
// Without the tag, and outside of modules, the same functions are pure Go, with the same
// results, so one source serves every host, and tests run natively.
//
// SealBox and OpenBox append to their first argument, as those of golang.org/x/crypto do,
// except that the output may overlap the input in any way. Functions and methods are safe
// for concurrent use.
package hostcrypto

// Lengths in bytes.
const (
	KeySize   = 32 // of secretbox, X25519 keys and Elligator representatives
	NonceSize = 24 // of secretbox
	Overhead  = 16 // of secretbox and of every AEAD
)

// sliceForAppend extends out by n bytes, and returns all of it and the new part.
func sliceForAppend(out []byte, n int) (all, tail []byte) {
	at := len(out)
	if total := at + n; cap(out) >= total {
		all = out[:total]
	} else {
		all = make([]byte, total)
		copy(all, out)
	}
	return all, all[at:]
}
