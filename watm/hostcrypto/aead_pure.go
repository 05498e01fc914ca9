//go:build !wasip1 || !watm_hostcrypto

package hostcrypto

import (
	"crypto/aes"
	"crypto/cipher"

	"golang.org/x/crypto/chacha20poly1305"
)

type aead = cipher.AEAD

func (a *AEAD) init(algorithm Algorithm, key []byte) (err error) {
	switch algorithm {
	case AESGCM:
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			a.impl, err = cipher.NewGCM(block)
		}
	case ChaCha20Poly1305:
		a.impl, err = chacha20poly1305.New(key)
	case XChaCha20Poly1305:
		a.impl, err = chacha20poly1305.NewX(key)
	}
	return err
}

func (a *AEAD) seal(dst, nonce, src, additional []byte) {
	copy(dst, a.impl.Seal(nil, nonce, src, additional))
}

func (a *AEAD) open(dst, nonce, src, additional []byte) bool {
	plain, err := a.impl.Open(nil, nonce, src, additional)
	copy(dst, plain)
	return err == nil
}

func (a *AEAD) sealFrames(frames []Frame) {
	for _, f := range frames {
		a.seal(f.Out, f.Nonce, f.In, nil)
	}
}
