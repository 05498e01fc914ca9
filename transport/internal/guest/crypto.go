package guest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"slices"
	"sync"

	curve25519 "github.com/cloudflare/circl/dh/x25519"
	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/salsa20"
	"lukechampine.com/blake3"

	"waterproxy/internal/elligator2"
)

// CryptoModule is what modules import the host's cryptography from (docs/abi.md).
const CryptoModule = "water_crypto_v1"

// maxCrypto bounds the bytes that one call works on: it cannot be stopped, and takes some
// milliseconds for so many.
const maxCrypto = 4 << 20

// cryptoFuncs work on the module's memory alone. What they write may overlap what they
// read: they take a copy of that first, so that another thread of the module cannot change
// it under their hands either.
var cryptoFuncs = []hostFunc{
	cryptoFunc("secretbox_seal", secretboxSeal, 5),
	cryptoFunc("secretbox_open", secretboxOpen, 5),
	cryptoFunc("secretbox_seal_many", many(secretboxSeal, 4, 2), 3),
	cryptoFunc("secretbox_open_many", many(secretboxOpen, 4, 2), 3),
	cryptoFunc("salsa20_xor", salsa20XOR, 6),
	cryptoFunc("chacha20_xor", chacha20XOR, 7),
	cryptoFunc("aes_ctr_xor", aesCTRXOR, 6),
	cryptoFunc("aead_new", aeadNew, 3),
	cryptoFunc("aead_seal", aeadSeal, 8),
	cryptoFunc("aead_open", aeadOpen, 8),
	cryptoFunc("aead_seal_many", many(aeadSeal, 7, 3, 5), 3),
	cryptoFunc("aead_open_many", many(aeadOpen, 7, 3, 5), 3),
	cryptoFunc("aead_free", aeadFree, 1),
	cryptoFunc("hash", hashSum, 4),
	cryptoFunc("hmac", hmacSum, 6),
	cryptoFunc("hkdf", hkdfKey, 9),
	cryptoFunc("blake3_derive_key", blake3DeriveKey, 6),
	cryptoFunc("x25519", x25519, 3),
	cryptoFunc("elligator2_key", elligator2Key, 4),
	cryptoFunc("elligator2_public", elligator2Public, 2),
}

// cryptoArgs reads what a call's arguments point to. The first error stays.
type cryptoArgs struct {
	c    *call
	rest []uint64
	bad  errno
}

func cryptoFunc(name string, f func(a *cryptoArgs) int32, params int) hostFunc {
	return hostFunc{name, manyI32[:params], true, func(c *call, stack []uint64) {
		c.in.calls.crypto.Add(1)
		a := cryptoArgs{c: c, rest: stack}
		r := f(&a)
		if a.bad != eSuccess {
			r = -int32(a.bad)
		}
		stack[0] = uint64(uint32(r))
	}}
}

var manyI32 = types(i32, i32, i32, i32, i32, i32, i32, i32, i32)

func (a *cryptoArgs) fail(e errno) int32 {
	if a.bad == eSuccess {
		a.bad = e
	}
	return 0
}

// number returns the next argument.
func (a *cryptoArgs) number() uint32 {
	n := uint32(a.rest[0])
	a.rest = a.rest[1:]
	return n
}

// view returns n bytes of the module's memory, nil after an error.
func (a *cryptoArgs) view(at, n uint32) []byte {
	if n > maxCrypto {
		a.fail(eInval)
		return nil
	}
	b, ok := a.c.mem.Read(at, n)
	if !ok {
		a.fail(eFault)
		return nil
	}
	return b[:n:n]
}

// fixed copies what the next argument points to.
func (a *cryptoArgs) fixed(to []byte) { copy(to, a.view(a.number(), uint32(len(to)))) }

// key copies what the next two arguments, pointer and length, are. Longer ones than most
// are an error.
func (a *cryptoArgs) key(most int) []byte {
	at, n := a.number(), a.number()
	if n > uint32(most) {
		a.fail(eInval)
		return nil
	}
	return append([]byte(nil), a.view(at, n)...)
}

// bytes copies what the next two arguments, pointer and length, are, into a buffer that
// free gives back.
func (a *cryptoArgs) bytes() (b []byte, free func()) {
	at, n := a.number(), a.number()
	from := a.view(at, n)
	p := cryptoBuffers.Get().(*[]byte)
	*p = append((*p)[:0], from...)
	return *p, func() {
		if cap(*p) <= keptBuffer {
			cryptoBuffers.Put(p)
		}
	}
}

// keptBuffer is the size of buffers that are kept for later calls.
const keptBuffer = 64 << 10

var cryptoBuffers = sync.Pool{New: func() any { return new([]byte) }}

// out returns n bytes to write to, from the address in the next argument on.
func (a *cryptoArgs) out(n int) []byte { return a.view(a.number(), uint32(n)) }

// maxFrames is the most that one call seals or opens.
const maxFrames = 1024

// many makes a function of one frame one of many: first, frames, count. first is the
// first argument of every call, and frames has the others, each a number of 32 bits. Those
// at the indexes in lengths have a sum that is bounded as the length of one frame.
//
// It returns how many frames are done. The one after them has an error, which is returned
// if it is the first.
func many(one func(a *cryptoArgs) int32, fields int, lengths ...int) func(a *cryptoArgs) int32 {
	return func(a *cryptoArgs) int32 {
		first, at, count := a.number(), a.number(), a.number()
		if count > maxFrames {
			return a.fail(eInval)
		}
		view := a.view(at, count*uint32(fields)*4)
		if a.bad != eSuccess {
			return 0
		}
		args := make([]uint64, 0, int(count)*fields)
		for ; len(view) > 0; view = view[4:] {
			args = append(args, uint64(binary.LittleEndian.Uint32(view)))
		}
		total := uint64(0)
		for frame := range slices.Chunk(args, fields) {
			for _, i := range lengths {
				total += frame[i]
			}
		}
		if total > maxCrypto {
			return a.fail(eInval)
		}
		all := make([]uint64, 1+fields)
		for done := range int32(count) {
			all[0] = uint64(first)
			copy(all[1:], args[int(done)*fields:])
			frame := cryptoArgs{c: a.c, rest: all}
			one(&frame)
			if frame.bad != eSuccess && done == 0 {
				return a.fail(frame.bad)
			}
			if frame.bad != eSuccess {
				return done
			}
		}
		return int32(count)
	}
}

// secretbox_seal(key, nonce, src, n, dst): dst gets n + 16 bytes.
func secretboxSeal(a *cryptoArgs) int32 {
	var key [32]byte
	var nonce [24]byte
	a.fixed(key[:])
	a.fixed(nonce[:])
	src, free := a.bytes()
	defer free()
	if dst := a.out(len(src) + secretbox.Overhead); a.bad == eSuccess {
		secretbox.Seal(dst[:0], src, &nonce, &key)
	}
	return 0
}

// secretbox_open(key, nonce, src, n, dst): dst gets n - 16 bytes, and nothing if the box is
// not authentic.
func secretboxOpen(a *cryptoArgs) int32 {
	var key [32]byte
	var nonce [24]byte
	a.fixed(key[:])
	a.fixed(nonce[:])
	src, free := a.bytes()
	defer free()
	if len(src) < secretbox.Overhead {
		return a.fail(eInval)
	}
	if dst := a.out(len(src) - secretbox.Overhead); a.bad == eSuccess {
		if _, ok := secretbox.Open(dst[:0], src, &nonce, &key); !ok {
			return a.fail(eBadmsg)
		}
	}
	return 0
}

// salsa20_xor(key, nonce, nonce_len, src, n, dst): with 8 bytes of nonce, or 24 for
// XSalsa20.
func salsa20XOR(a *cryptoArgs) int32 {
	var key [32]byte
	a.fixed(key[:])
	nonce := a.key(24)
	src, free := a.bytes()
	defer free()
	dst := a.out(len(src))
	switch {
	case a.bad != eSuccess:
	case len(nonce) != 8 && len(nonce) != 24:
		return a.fail(eInval)
	default:
		salsa20.XORKeyStream(dst, src, nonce, &key)
	}
	return 0
}

// chacha20_xor(key, nonce, nonce_len, block, src, n, dst): with 12 bytes of nonce, or 24
// for XChaCha20, from the block with that number on.
func chacha20XOR(a *cryptoArgs) int32 {
	var key [32]byte
	a.fixed(key[:])
	nonce := a.key(24)
	block := a.number()
	src, free := a.bytes()
	defer free()
	dst := a.out(len(src))
	if a.bad != eSuccess {
		return 0
	}
	c, err := chacha20.NewUnauthenticatedCipher(key[:], nonce)
	// The cipher panics where its 32-bit counter would wrap.
	if err != nil || uint64(block)+uint64(len(src)+63)/64 > 1<<32 {
		return a.fail(eInval)
	}
	c.SetCounter(block)
	c.XORKeyStream(dst, src)
	return 0
}

// aes_ctr_xor(key, key_len, iv, src, n, dst): AES with a counter of 16 bytes, which begins
// at iv.
func aesCTRXOR(a *cryptoArgs) int32 {
	key := a.key(32)
	var iv [aes.BlockSize]byte
	a.fixed(iv[:])
	src, free := a.bytes()
	defer free()
	dst := a.out(len(src))
	if a.bad != eSuccess {
		return 0
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return a.fail(eInval)
	}
	cipher.NewCTR(block, iv[:]).XORKeyStream(dst, src)
	return 0
}

// hashOf returns the hash function with a number, nil if there is none.
func hashOf(n uint32) func() hash.Hash {
	switch n {
	case 1:
		return sha1.New
	case 2:
		return sha256.New
	case 3:
		return sha512.New
	}
	return nil
}

// hash(function, src, n, dst): dst gets 20, 32 or 64 bytes.
func hashSum(a *cryptoArgs) int32 {
	f := hashOf(a.number())
	src, free := a.bytes()
	defer free()
	if f == nil {
		return a.fail(eInval)
	}
	h := f()
	if dst := a.out(h.Size()); a.bad == eSuccess {
		h.Write(src)
		h.Sum(dst[:0])
	}
	return 0
}

// maxKey bounds keys, salts and contexts, in bytes.
const maxKey = 4096

// hmac(function, key, key_len, src, n, dst)
func hmacSum(a *cryptoArgs) int32 {
	f := hashOf(a.number())
	key := a.key(maxKey)
	src, free := a.bytes()
	defer free()
	if f == nil {
		return a.fail(eInval)
	}
	h := hmac.New(f, key)
	if dst := a.out(h.Size()); a.bad == eSuccess {
		h.Write(src)
		h.Sum(dst[:0])
	}
	return 0
}

// hkdf(function, secret, secret_len, salt, salt_len, info, info_len, dst, n)
func hkdfKey(a *cryptoArgs) int32 {
	f := hashOf(a.number())
	secret, salt, info := a.key(maxKey), a.key(maxKey), a.key(maxKey)
	at, n := a.number(), a.number()
	dst := a.view(at, n)
	if f == nil {
		return a.fail(eInval)
	}
	if a.bad != eSuccess {
		return 0
	}
	key, err := hkdf.Key(f, secret, salt, string(info), len(dst))
	if err != nil { // it is too long for the function
		return a.fail(eInval)
	}
	copy(dst, key)
	return 0
}

// blake3_derive_key(context, context_len, material, material_len, dst, n): BLAKE3's key
// derivation.
func blake3DeriveKey(a *cryptoArgs) int32 {
	context, material := a.key(maxKey), a.key(maxKey)
	at, n := a.number(), a.number()
	if dst := a.view(at, n); a.bad == eSuccess {
		blake3.DeriveKey(dst, string(context), material)
	}
	return 0
}

// x25519(private, public, dst): dst gets the shared secret. One that is all zero, because
// the public key is of low order, is an error.
func x25519(a *cryptoArgs) int32 {
	var private, public, secret curve25519.Key
	a.fixed(private[:])
	a.fixed(public[:])
	dst := a.out(32)
	if a.bad != eSuccess {
		return 0
	}
	if !curve25519.Shared(&secret, &private, &public) {
		return a.fail(eInval)
	}
	copy(dst, secret[:])
	return 0
}

// elligator2_key(private, tweak, public, representative) returns 1, or 0 if the key has no
// representative; see package elligator2.
func elligator2Key(a *cryptoArgs) int32 {
	var private [elligator2.Size]byte
	a.fixed(private[:])
	tweak := a.number()
	public, representative := a.out(elligator2.Size), a.out(elligator2.Size)
	if a.bad != eSuccess {
		return 0
	}
	p, r, ok := elligator2.NewKey(&private, byte(tweak))
	if !ok {
		return 0
	}
	copy(public, p[:])
	copy(representative, r[:])
	return 1
}

// elligator2_public(representative, dst)
func elligator2Public(a *cryptoArgs) int32 {
	var representative [elligator2.Size]byte
	a.fixed(representative[:])
	if dst := a.out(elligator2.Size); a.bad == eSuccess {
		public := elligator2.Public(&representative)
		copy(dst, public[:])
	}
	return 0
}
