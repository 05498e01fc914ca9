package guest

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Numbers of AEADs.
const (
	aesGCM            = 1 // with a key of 16 or 32 bytes
	chaCha20Poly1305  = 2
	xChaCha20Poly1305 = 3
)

// keyring has the AEADs of an instance, whose handles begin at 1.
type keyring struct {
	mu   sync.Mutex
	keys map[uint32]cipher.AEAD
	last uint32
}

func (k *keyring) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.keys)
}

// keysEach is how many AEADs there may be for each connection.
const keysEach = 4

func newAEAD(alg uint32, key []byte) (cipher.AEAD, error) {
	switch {
	case alg == aesGCM && (len(key) == 16 || len(key) == 32):
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case alg == chaCha20Poly1305:
		return chacha20poly1305.New(key)
	case alg == xChaCha20Poly1305:
		return chacha20poly1305.NewX(key)
	}
	return nil, errors.ErrUnsupported
}

// aead_new(algorithm, key, key_len) returns a handle.
func aeadNew(a *cryptoArgs) int32 {
	alg := a.number()
	key := a.key(32)
	if a.bad != eSuccess {
		return 0
	}
	aead, err := newAEAD(alg, key)
	if err != nil {
		return a.fail(eInval)
	}
	room := a.c.in.hasRoom(keyCost)
	k := &a.c.in.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) >= max(a.c.in.o.Limits.Conns, 1)*keysEach || !room {
		return a.fail(eMfile)
	}
	if k.keys == nil {
		k.keys = map[uint32]cipher.AEAD{}
	}
	for k.last = k.last%(1<<31-1) + 1; k.keys[k.last] != nil; k.last = k.last%(1<<31-1) + 1 {
	}
	k.keys[k.last] = aead
	return int32(k.last)
}

// aead returns what the next argument is the handle of.
func (a *cryptoArgs) aead() cipher.AEAD {
	k := &a.c.in.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	aead := k.keys[a.number()]
	if aead == nil {
		a.fail(eBadf)
	}
	return aead
}

// aead_free(handle)
func aeadFree(a *cryptoArgs) int32 {
	k := &a.c.in.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	handle := a.number()
	if k.keys[handle] == nil {
		return a.fail(eBadf)
	}
	delete(k.keys, handle)
	return 0
}

// aeadCall is what aead_seal and aead_open have in common. work returns what becomes of
// src, which it may write over: it is a copy.
func (a *cryptoArgs) aeadCall(work func(aead cipher.AEAD, nonce, src, aad []byte) ([]byte, error)) int32 {
	aead := a.aead()
	nonce := a.key(24)
	aad, freeAAD := a.bytes()
	defer freeAAD()
	src, free := a.bytes()
	defer free()
	switch {
	case a.bad != eSuccess:
		return 0
	case len(nonce) != aead.NonceSize():
		return a.fail(eInval)
	}
	made, err := work(aead, nonce, src, aad)
	if err != nil {
		return a.fail(eBadmsg)
	}
	copy(a.out(len(made)), made)
	return 0
}

// aead_seal(handle, nonce, nonce_len, aad, aad_len, src, n, dst): dst gets n + 16 bytes.
func aeadSeal(a *cryptoArgs) int32 {
	return a.aeadCall(func(aead cipher.AEAD, nonce, src, aad []byte) ([]byte, error) {
		return aead.Seal(src[:0], nonce, src, aad), nil
	})
}

// aead_open(handle, nonce, nonce_len, aad, aad_len, src, n, dst): dst gets n - 16 bytes, and
// nothing if they are not authentic.
func aeadOpen(a *cryptoArgs) int32 {
	return a.aeadCall(func(aead cipher.AEAD, nonce, src, aad []byte) ([]byte, error) {
		return aead.Open(src[:0], nonce, src, aad)
	})
}
