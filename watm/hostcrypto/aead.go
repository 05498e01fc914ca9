package hostcrypto

import (
	"crypto/cipher"
	"errors"
)

// Algorithm is a cipher with authentication (AEAD). All have tags of [Overhead] bytes.
type Algorithm uint32

const (
	AESGCM            Algorithm = 1 // key of 16 or 32 bytes, nonce of 12
	ChaCha20Poly1305  Algorithm = 2 // key of 32 bytes, nonce of 12
	XChaCha20Poly1305 Algorithm = 3 // key of 32 bytes, nonce of 24
)

var (
	_ cipher.AEAD = (*AEAD)(nil)

	errKey = errors.New("a key of this length, or this algorithm, does not exist")
	errNot = errors.New("the message is not authentic")
)

// AEAD is a [cipher.AEAD]; what it writes may overlap what it reads in any way. The host
// forgets the key some time after the last use of an AEAD: nothing needs to be closed.
type AEAD struct {
	impl      aead
	nonceSize int
}

// NewAEAD returns the AEAD of a key. The host has 4 for each connection that an instance
// may have; if all are in use, and remain so for a second, that is an error.
func NewAEAD(algorithm Algorithm, key []byte) (*AEAD, error) {
	a := &AEAD{nonceSize: 12}
	switch n := len(key); {
	case algorithm == AESGCM && (n == 16 || n == 32), algorithm == ChaCha20Poly1305 && n == KeySize:
	case algorithm == XChaCha20Poly1305 && n == KeySize:
		a.nonceSize = 24
	default:
		return nil, errKey
	}
	return a, a.init(algorithm, key)
}

// NonceSize implements [cipher.AEAD].
func (a *AEAD) NonceSize() int { return a.nonceSize }

// Overhead implements [cipher.AEAD].
func (a *AEAD) Overhead() int { return Overhead }

// Seal implements [cipher.AEAD]. It panics if the nonce has another length than NonceSize.
func (a *AEAD) Seal(dst, nonce, plaintext, additional []byte) []byte {
	a.checkNonce(nonce)
	all, tail := sliceForAppend(dst, len(plaintext)+Overhead)
	a.seal(tail, nonce, plaintext, additional)
	return all
}

// Open implements [cipher.AEAD]. It panics if the nonce has another length than NonceSize.
func (a *AEAD) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	a.checkNonce(nonce)
	if len(ciphertext) < Overhead {
		return nil, errNot
	}
	all, tail := sliceForAppend(dst, len(ciphertext)-Overhead)
	if !a.open(tail, nonce, ciphertext, additional) {
		return nil, errNot
	}
	return all, nil
}

func (a *AEAD) checkNonce(nonce []byte) {
	if len(nonce) != a.nonceSize {
		panic("hostcrypto: a nonce of the wrong length")
	}
}

// Frame is one of several messages that one call seals. It reads In, which must not change
// meanwhile, and writes Out, which has len(In)+[Overhead] bytes.
type Frame struct{ Nonce, In, Out []byte }

// SealFrames seals frames, in order, without additional data. It panics if a nonce or an
// output has the wrong length. In a module it is one call of the host's for up to 1024
// frames of 4 MiB together.
func (a *AEAD) SealFrames(frames []Frame) {
	for i := range frames {
		a.checkNonce(frames[i].Nonce)
		if len(frames[i].Out) != len(frames[i].In)+Overhead {
			panic("hostcrypto: an output of the wrong length")
		}
	}
	a.sealFrames(frames)
}
