package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"waterproxy/watm/hostcrypto"
)

// method is a way to encrypt, by the name that all programs of shadowsocks give it. Its
// salts are as long as its keys.
type method struct {
	name    string
	aead    hostcrypto.Algorithm
	keySize int
	// edition2022 is the one whose connections begin with a header that has the time
	// (SIP022). The others are those of SIP004.
	edition2022 bool
}

// The first method is the default.
var methods = []method{
	{"chacha20-ietf-poly1305", hostcrypto.ChaCha20Poly1305, 32, false},
	{"aes-128-gcm", hostcrypto.AESGCM, 16, false},
	{"aes-256-gcm", hostcrypto.AESGCM, 32, false},
	{"2022-blake3-aes-128-gcm", hostcrypto.AESGCM, 16, true},
	{"2022-blake3-aes-256-gcm", hostcrypto.AESGCM, 32, true},
	{"2022-blake3-chacha20-poly1305", hostcrypto.ChaCha20Poly1305, 32, true},
}

func methodNames() (names []string) {
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

// maxChunk is the most payload of a chunk, in bytes (SIP004 and SIP022).
func (m *method) maxChunk() int {
	if m.edition2022 {
		return 1<<16 - 1
	}
	return 1<<14 - 1
}

// masterKey is what both sides have in common.
type masterKey struct {
	*method
	key []byte
}

var errNotKey = errors.New("the password is not a key of this cipher in base64")

// newMasterKey makes a key of a password.
func newMasterKey(m *method, password string) (*masterKey, error) {
	if !m.edition2022 {
		return &masterKey{m, bytesToKey(password, m.keySize)}, nil
	}
	key, err := decodeKey(password)
	if err != nil || len(key) != m.keySize {
		return nil, errNotKey
	}
	return &masterKey{m, key}, nil
}

// decodeKey reads base64 with and without its padding, which a bridge line cannot carry.
func decodeKey(text string) ([]byte, error) {
	for len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	return base64.RawStdEncoding.DecodeString(text)
}

// bytesToKey is what OpenSSL's EVP_BytesToKey makes of a password with MD5 and no salt,
// which is how every program of shadowsocks does it.
func bytesToKey(password string, size int) (key []byte) {
	var sum []byte
	for len(key) < size {
		digest := md5.Sum(append(sum, password...))
		sum = digest[:]
		key = append(key, sum...)
	}
	return key[:size]
}

// session returns the cipher of one direction of a connection, which has a salt of its own.
func (k *masterKey) session(salt []byte) (*counted, error) {
	var key []byte
	if k.edition2022 {
		key = hostcrypto.BLAKE3DeriveKey("shadowsocks 2022 session subkey", slices.Concat(k.key, salt), k.keySize)
	} else {
		key = hostcrypto.HKDFSHA1(k.key, salt, "ss-subkey", k.keySize)
	}
	aead, err := hostcrypto.NewAEAD(k.aead, key)
	return &counted{aead: aead}, err
}

// counted is a cipher with the number of its next message, which is the nonce, the least
// significant byte first.
type counted struct {
	aead *hostcrypto.AEAD
	n    uint64
}

const (
	nonceSize = 12
	overhead  = hostcrypto.Overhead
)

func (c *counted) nonce(to []byte) []byte {
	binary.LittleEndian.PutUint64(to, c.n)
	c.n++
	return to
}

// open opens the next message. The output may overlap it.
func (c *counted) open(to, message []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	return c.aead.Open(to, c.nonce(nonce[:]), message, nil)
}

// batch is messages that one call seals.
type batch struct {
	frames []hostcrypto.Frame
	nonces []byte
}

// seal seals, one after the other, pieces of a buffer in place: each has room for its tag
// behind it.
func (c *counted) seal(b *batch, pieces ...[]byte) {
	b.frames = slices.Grow(b.frames[:0], len(pieces))
	b.nonces = slices.Grow(b.nonces[:0], len(pieces)*nonceSize)[:len(pieces)*nonceSize]
	clear(b.nonces)
	for i, p := range pieces {
		b.frames = append(b.frames, hostcrypto.Frame{Nonce: c.nonce(b.nonces[i*nonceSize : (i+1)*nonceSize]),
			In: p, Out: p[:len(p)+overhead]})
	}
	c.aead.SealFrames(b.frames)
}
