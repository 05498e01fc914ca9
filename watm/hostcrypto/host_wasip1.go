//go:build wasip1 && watm_hostcrypto

package hostcrypto

import (
	"crypto/sha256"
	"strconv"
	"unsafe"
)

//go:wasmimport water_crypto_v1 secretbox_seal
//go:noescape
func secretboxSeal(key, nonce, src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 secretbox_open
//go:noescape
func secretboxOpen(key, nonce, src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 hash
//go:noescape
func hash(function uint32, src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 hmac
//go:noescape
func hmac(function uint32, key unsafe.Pointer, keyLen uint32, src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 hkdf
//go:noescape
func hkdf(function uint32, secret unsafe.Pointer, secretLen uint32, salt unsafe.Pointer, saltLen uint32,
	info unsafe.Pointer, infoLen uint32, dst unsafe.Pointer, n uint32) int32

//go:wasmimport water_crypto_v1 blake3_derive_key
//go:noescape
func blake3DeriveKey(context unsafe.Pointer, contextLen uint32, material unsafe.Pointer, materialLen uint32,
	dst unsafe.Pointer, n uint32) int32

//go:wasmimport water_crypto_v1 x25519
//go:noescape
func x25519(private, public, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 elligator2_key
//go:noescape
func elligator2Key(private unsafe.Pointer, tweak uint32, public, representative unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 elligator2_public
//go:noescape
func elligator2Public(representative, dst unsafe.Pointer) int32

// Numbers of hash functions.
const (
	sha1Function   = 1
	sha256Function = 2
)

// must panics on an error of a call whose arguments this package has made.
func must(name string, result int32) {
	if result < 0 {
		panic("water_crypto_v1." + name + " returned " + strconv.Itoa(int(result)))
	}
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// SealBox is Seal of golang.org/x/crypto/nacl/secretbox.
func SealBox(out, message []byte, nonce *[NonceSize]byte, key *[KeySize]byte) []byte {
	all, tail := sliceForAppend(out, len(message)+Overhead)
	must("secretbox_seal", secretboxSeal(unsafe.Pointer(key), unsafe.Pointer(nonce), pointer(message), uint32(len(message)), pointer(tail)))
	return all
}

// OpenBox is Open of golang.org/x/crypto/nacl/secretbox.
func OpenBox(out, box []byte, nonce *[NonceSize]byte, key *[KeySize]byte) ([]byte, bool) {
	if len(box) < Overhead {
		return nil, false
	}
	all, tail := sliceForAppend(out, len(box)-Overhead)
	if secretboxOpen(unsafe.Pointer(key), unsafe.Pointer(nonce), pointer(box), uint32(len(box)), pointer(tail)) < 0 {
		return nil, false
	}
	return all, true
}

// HMACSHA256 returns the HMAC-SHA256 of data.
func HMACSHA256(key, data []byte) (sum [sha256.Size]byte) {
	must("hmac", hmac(sha256Function, pointer(key), uint32(len(key)), pointer(data), uint32(len(data)), unsafe.Pointer(&sum)))
	return sum
}

// SHA256 returns the SHA-256 of data.
func SHA256(data []byte) (sum [sha256.Size]byte) {
	must("hash", hash(sha256Function, pointer(data), uint32(len(data)), unsafe.Pointer(&sum)))
	return sum
}

// HKDFSHA256 returns n bytes that are derived from a secret (RFC 5869), 255 times 32 at
// most.
func HKDFSHA256(secret, salt []byte, info string, n int) []byte {
	return derive(sha256Function, secret, salt, info, n)
}

// HKDFSHA1 is the same with SHA-1, for protocols that have it: 255 times 20 bytes at most.
func HKDFSHA1(secret, salt []byte, info string, n int) []byte {
	return derive(sha1Function, secret, salt, info, n)
}

func derive(function uint32, secret, salt []byte, info string, n int) []byte {
	key := make([]byte, n)
	must("hkdf", hkdf(function, pointer(secret), uint32(len(secret)), pointer(salt), uint32(len(salt)),
		unsafe.Pointer(unsafe.StringData(info)), uint32(len(info)), pointer(key), uint32(n)))
	return key
}

// BLAKE3DeriveKey returns n bytes that BLAKE3 derives from key material for a context,
// which is a constant of the protocol. Context and material have 4096 bytes at most.
func BLAKE3DeriveKey(context string, material []byte, n int) []byte {
	key := make([]byte, n)
	must("blake3_derive_key", blake3DeriveKey(unsafe.Pointer(unsafe.StringData(context)), uint32(len(context)),
		pointer(material), uint32(len(material)), pointer(key), uint32(n)))
	return key
}

// X25519 returns the shared secret of two keys. It is false if the public key is of low
// order, so that the secret would be all zero.
func X25519(private, public *[KeySize]byte) (secret [KeySize]byte, ok bool) {
	ok = x25519(unsafe.Pointer(private), unsafe.Pointer(public), unsafe.Pointer(&secret)) == 0
	return secret, ok
}

// Elligator2Key makes a public key that has a representative which looks random, as half
// of all private keys do; see package elligator2 of waterproxy for the details.
func Elligator2Key(private *[KeySize]byte, tweak byte) (public, representative [KeySize]byte, ok bool) {
	r := elligator2Key(unsafe.Pointer(private), uint32(tweak), unsafe.Pointer(&public), unsafe.Pointer(&representative))
	must("elligator2_key", r)
	return public, representative, r == 1
}

// Elligator2Public returns the public key that a representative stands for.
func Elligator2Public(representative *[KeySize]byte) (public [KeySize]byte) {
	must("elligator2_public", elligator2Public(unsafe.Pointer(representative), unsafe.Pointer(&public)))
	return public
}
