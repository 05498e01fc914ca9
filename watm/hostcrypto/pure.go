//go:build !wasip1 || !watm_hostcrypto

package hostcrypto

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"hash"

	"golang.org/x/crypto/nacl/secretbox"
	"lukechampine.com/blake3"

	"waterproxy/internal/elligator2"
)

// SealBox is Seal of golang.org/x/crypto/nacl/secretbox.
func SealBox(out, message []byte, nonce *[NonceSize]byte, key *[KeySize]byte) []byte {
	return secretbox.Seal(out, append([]byte(nil), message...), nonce, key)
}

// OpenBox is Open of golang.org/x/crypto/nacl/secretbox.
func OpenBox(out, box []byte, nonce *[NonceSize]byte, key *[KeySize]byte) ([]byte, bool) {
	return secretbox.Open(out, append([]byte(nil), box...), nonce, key)
}

// HMACSHA256 returns the HMAC-SHA256 of data.
func HMACSHA256(key, data []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

// SHA256 returns the SHA-256 of data.
func SHA256(data []byte) [sha256.Size]byte { return sha256.Sum256(data) }

// HKDFSHA256 returns n bytes that are derived from a secret (RFC 5869), 255 times 32 at
// most.
func HKDFSHA256(secret, salt []byte, info string, n int) []byte {
	return derive(sha256.New, secret, salt, info, n)
}

// HKDFSHA1 is the same with SHA-1, for protocols that have it: 255 times 20 bytes at most.
func HKDFSHA1(secret, salt []byte, info string, n int) []byte {
	return derive(sha1.New, secret, salt, info, n)
}

func derive[H hash.Hash](function func() H, secret, salt []byte, info string, n int) []byte {
	key, err := hkdf.Key(function, secret, salt, info, n)
	if err != nil {
		panic(err) // n is the caller's
	}
	return key
}

// BLAKE3DeriveKey returns n bytes that BLAKE3 derives from key material for a context,
// which is a constant of the protocol. Context and material have 4096 bytes at most.
func BLAKE3DeriveKey(context string, material []byte, n int) []byte {
	key := make([]byte, n)
	blake3.DeriveKey(key, context, material)
	return key
}

// X25519 returns the shared secret of two keys. It is false if the public key is of low
// order, so that the secret would be all zero.
func X25519(private, public *[KeySize]byte) (secret [KeySize]byte, ok bool) {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return secret, false
	}
	p, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return secret, false
	}
	shared, err := k.ECDH(p)
	copy(secret[:], shared)
	return secret, err == nil
}

// Elligator2Key makes a public key that has a representative which looks random, as half
// of all private keys do; see package elligator2 of waterproxy for the details.
func Elligator2Key(private *[KeySize]byte, tweak byte) (public, representative [KeySize]byte, ok bool) {
	return elligator2.NewKey(private, tweak)
}

// Elligator2Public returns the public key that a representative stands for.
func Elligator2Public(representative *[KeySize]byte) [KeySize]byte {
	return elligator2.Public(representative)
}
