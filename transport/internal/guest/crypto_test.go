package guest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/salsa20"

	"waterproxy/internal/elligator2"
	"waterproxy/transport/internal/stream"
)

// crypto calls a function of the host's cryptography.
func (c *call) crypto(t testing.TB, name string, args ...uint64) int32 {
	t.Helper()
	i := slices.IndexFunc(cryptoFuncs, func(f hostFunc) bool { return f.name == name })
	if i < 0 || len(args) != len(cryptoFuncs[i].params) {
		t.Fatalf("%s with %d arguments", name, len(args))
	}
	stack := slices.Clone(args)
	cryptoFuncs[i].call(c, stack)
	return int32(uint32(stack[0]))
}

// put writes into the module's memory, and returns where.
func (c *call) put(at uint32, b []byte) uint64 {
	to, _ := c.mem.Read(at, uint32(len(b)))
	copy(to, b)
	return uint64(at)
}

func (c *call) got(at, n uint32) []byte {
	b, _ := c.mem.Read(at, n)
	return slices.Clone(b)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Places in the module's memory, which has 64 KiB.
const (
	keyPlace   = 1 << 10
	noncePlace = 2 << 10
	aadPlace   = 3 << 10
	srcPlace   = 8 << 10
	dstPlace   = 32 << 10
)

// TestCrypto: each function gives what Go's libraries give, also where the output lies
// over the input.
func TestCrypto(t *testing.T) {
	c := newCall(t, stream.Posix)
	key, nonce := noise(32), noise(24)
	k, n := c.put(keyPlace, key), c.put(noncePlace, nonce)
	aad := noise(13)
	a := c.put(aadPlace, aad)
	box := func(src []byte) []byte { return secretbox.Seal(nil, src, (*[24]byte)(nonce), (*[32]byte)(key)) }
	gcmBlock, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(gcmBlock)
	if err != nil {
		t.Fatal(err)
	}
	aead := func(alg uint64) uint64 {
		h := c.crypto(t, "aead_new", alg, k, 32)
		if h <= 0 {
			t.Fatalf("aead_new(%d) returned %d", alg, h)
		}
		return uint64(h)
	}
	chacha, _ := chacha20poly1305.New(key)
	xchacha, _ := chacha20poly1305.NewX(key)
	sum := func(alg uint64) func(src, dst, size uint64) int32 {
		return func(src, dst, size uint64) int32 { return c.crypto(t, "hash", alg, src, size, dst) }
	}
	seal := func(h, nonceLen uint64) func(src, dst, size uint64) int32 {
		return func(src, dst, size uint64) int32 {
			return c.crypto(t, "aead_seal", h, n, nonceLen, a, uint64(len(aad)), src, size, dst)
		}
	}
	open := func(h, nonceLen uint64) func(src, dst, size uint64) int32 {
		return func(src, dst, size uint64) int32 {
			return c.crypto(t, "aead_open", h, n, nonceLen, a, uint64(len(aad)), src, size, dst)
		}
	}
	gcmKey, chachaKey, xchachaKey := aead(aesGCM), aead(chaCha20Poly1305), aead(xChaCha20Poly1305)
	for name, f := range map[string]struct {
		call func(src, dst, size uint64) int32
		in   func(text []byte) []byte // what is in src for a text
		want func(text []byte) []byte
	}{
		"secretbox_seal": {func(src, dst, size uint64) int32 { return c.crypto(t, "secretbox_seal", k, n, src, size, dst) }, slices.Clone[[]byte], box},
		"secretbox_open": {func(src, dst, size uint64) int32 { return c.crypto(t, "secretbox_open", k, n, src, size, dst) }, box, slices.Clone[[]byte]},
		"salsa20_xor": {func(src, dst, size uint64) int32 { return c.crypto(t, "salsa20_xor", k, n, 8, src, size, dst) }, slices.Clone[[]byte], func(text []byte) []byte {
			out := make([]byte, len(text))
			salsa20.XORKeyStream(out, text, nonce[:8], (*[32]byte)(key))
			return out
		}},
		"aes_ctr_xor": {func(src, dst, size uint64) int32 { return c.crypto(t, "aes_ctr_xor", k, 32, n, src, size, dst) }, slices.Clone[[]byte], func(text []byte) []byte {
			out := make([]byte, len(text))
			cipher.NewCTR(gcmBlock, nonce[:16]).XORKeyStream(out, text)
			return out
		}},
		"seal AES-GCM":            {seal(gcmKey, 12), slices.Clone[[]byte], func(text []byte) []byte { return gcm.Seal(nil, nonce[:12], text, aad) }},
		"open AES-GCM":            {open(gcmKey, 12), func(text []byte) []byte { return gcm.Seal(nil, nonce[:12], text, aad) }, slices.Clone[[]byte]},
		"seal ChaCha20-Poly1305":  {seal(chachaKey, 12), slices.Clone[[]byte], func(text []byte) []byte { return chacha.Seal(nil, nonce[:12], text, aad) }},
		"open XChaCha20-Poly1305": {open(xchachaKey, 24), func(text []byte) []byte { return xchacha.Seal(nil, nonce, text, aad) }, slices.Clone[[]byte]},
		"SHA-1":                   {sum(1), slices.Clone[[]byte], func(text []byte) []byte { s := sha1.Sum(text); return s[:] }},
		"SHA-256":                 {sum(2), slices.Clone[[]byte], func(text []byte) []byte { s := sha256.Sum256(text); return s[:] }},
		"SHA-512":                 {sum(3), slices.Clone[[]byte], func(text []byte) []byte { s := sha512.Sum512(text); return s[:] }},
		"hmac": {func(src, dst, size uint64) int32 { return c.crypto(t, "hmac", 2, k, 20, src, size, dst) }, slices.Clone[[]byte], func(text []byte) []byte {
			h := hmac.New(sha256.New, key[:20])
			h.Write(text)
			return h.Sum(nil)
		}},
	} {
		for _, size := range []int{0, 1, 16, 1427, 5000} {
			text := noise(size)
			in, want := f.in(text), f.want(text)
			for _, dst := range []uint64{dstPlace, srcPlace, srcPlace - 16, srcPlace + 7} {
				src := c.put(srcPlace, in)
				if r := f.call(src, dst, uint64(len(in))); r != 0 {
					t.Errorf("%s of %d bytes returned %d", name, size, r)
				}
				if got := c.got(uint32(dst), uint32(len(want))); !bytes.Equal(got, want) {
					t.Errorf("%s of %d bytes to %d gives another result", name, size, dst)
				}
			}
		}
	}
	info, salt := []byte("info"), noise(16)
	if r := c.crypto(t, "hkdf", 2, k, 32, c.put(srcPlace, salt), 16, c.put(aadPlace, info), 4, dstPlace, 144); r != 0 {
		t.Errorf("hkdf returned %d", r)
	}
	if want, _ := hkdf.Key(sha256.New, key, salt, "info", 144); !bytes.Equal(c.got(dstPlace, 144), want) {
		t.Error("hkdf gives another key")
	}
}

// TestCryptoMany: one call seals and opens many frames, up to the first that is not right.
func TestCryptoMany(t *testing.T) {
	c := newCall(t, stream.Posix)
	key := noise(32)
	c.put(keyPlace, key)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	h := uint64(c.crypto(t, "aead_new", chaCha20Poly1305, keyPlace, 32))
	const frames, size, room, table = 5, 100, 128, 4 << 10
	aad := noise(7)
	c.put(aadPlace, aad)
	nonce := func(i uint32) uint32 { return noncePlace + 24*i }
	type fields = []uint32
	boxes, messages := func(src, n, dst, i uint32) fields { return fields{nonce(i), src + room*i, n, dst + room*i} },
		func(src, n, dst, i uint32) fields {
			return fields{nonce(i), 12, aadPlace, uint32(len(aad)), src + room*i, n, dst + room*i}
		}
	for name, kind := range map[string]struct {
		key   uint64
		frame func(src, n, dst, i uint32) fields
		seal  func(nonce, text []byte) []byte
	}{
		"secretbox": {keyPlace, boxes, func(nonce, text []byte) []byte {
			return secretbox.Seal(nil, text, (*[24]byte)(nonce), (*[32]byte)(key))
		}},
		"aead": {h, messages, func(nonce, text []byte) []byte { return aead.Seal(nil, nonce[:12], text, aad) }},
	} {
		c.put(nonce(0), noise(24*frames))
		text := noise(room * frames)
		c.put(srcPlace, text)
		put := func(src, n, dst uint32) {
			var b []byte
			for i := range uint32(frames) {
				for _, f := range kind.frame(src, n, dst, i) {
					b = binary.LittleEndian.AppendUint32(b, f)
				}
			}
			c.put(table, b)
		}
		put(srcPlace, size, dstPlace)
		if r := c.crypto(t, name+"_seal_many", kind.key, table, frames); r != frames {
			t.Fatalf("%s_seal_many returned %d", name, r)
		}
		for i := range uint32(frames) {
			want := kind.seal(c.got(nonce(i), 24), text[room*i:room*i+size])
			if !bytes.Equal(c.got(dstPlace+room*i, size+16), want) {
				t.Errorf("%s: sealed frame %d is another", name, i)
			}
		}
		put(dstPlace, size+16, srcPlace)
		c.put(srcPlace, make([]byte, len(text)))
		if r := c.crypto(t, name+"_open_many", kind.key, table, frames); r != frames {
			t.Fatalf("%s_open_many returned %d", name, r)
		}
		for i := range uint32(frames) {
			if !bytes.Equal(c.got(srcPlace+room*i, size), text[room*i:room*i+size]) {
				t.Errorf("%s: opened frame %d is another", name, i)
			}
		}
		c.put(dstPlace+room*3, noise(1))
		if r := c.crypto(t, name+"_open_many", kind.key, table, frames); r != 3 {
			t.Errorf("%s_open_many with a forged fourth frame returned %d", name, r)
		}
		c.put(dstPlace, noise(16))
		if r := c.crypto(t, name+"_open_many", kind.key, table, frames); r != -int32(eBadmsg) {
			t.Errorf("%s_open_many with a forged first frame returned %d", name, r)
		}
		for what, r := range map[string]int32{
			"too many":        c.crypto(t, name+"_seal_many", kind.key, table, maxFrames+1),
			"too many by far": c.crypto(t, name+"_seal_many", kind.key, table, 1<<31),
			"too long together": func() int32 {
				put(srcPlace, maxCrypto/4, dstPlace)
				return c.crypto(t, name+"_seal_many", kind.key, table, frames)
			}(),
		} {
			if r != -int32(eInval) {
				t.Errorf("%s_seal_many, %s: returned %d", name, what, r)
			}
		}
		if r := c.crypto(t, name+"_seal_many", kind.key, 1<<16-4, frames); r != -int32(eFault) {
			t.Errorf("%s_seal_many of frames that are nowhere returned %d", name, r)
		}
		if r := c.crypto(t, name+"_seal_many", kind.key, table, 0); r != 0 {
			t.Errorf("%s_seal_many of nothing returned %d", name, r)
		}
	}
}

// TestCryptoBLAKE3: the derivation is the one of BLAKE3's test vectors.
func TestCryptoBLAKE3(t *testing.T) {
	c := newCall(t, stream.Posix)
	const context = "BLAKE3 2019-12-27 16:29:52 test vectors context"
	r := c.crypto(t, "blake3_derive_key", c.put(keyPlace, []byte(context)), uint64(len(context)), c.put(srcPlace, []byte{0}), 1, dstPlace, 32)
	const want = "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c"
	if got := hex.EncodeToString(c.got(dstPlace, 32)); r != 0 || got != want {
		t.Errorf("%d, %s", r, got)
	}
}

// TestCryptoKeys: X25519 and Elligator agree with Go's.
func TestCryptoKeys(t *testing.T) {
	c := newCall(t, stream.Posix)
	found := false
	for !found {
		private := noise(32)
		public, representative, ok := elligator2.NewKey((*[32]byte)(private), 0x81)
		r := c.crypto(t, "elligator2_key", c.put(keyPlace, private), 0x81, dstPlace, dstPlace+64)
		if want := map[bool]int32{true: 1}[ok]; r != want {
			t.Fatalf("elligator2_key returned %d, want %d", r, want)
		}
		if found = ok; !ok {
			continue
		}
		if !bytes.Equal(c.got(dstPlace, 32), public[:]) || !bytes.Equal(c.got(dstPlace+64, 32), representative[:]) {
			t.Error("elligator2_key gives another key")
		}
		if r := c.crypto(t, "elligator2_public", dstPlace+64, dstPlace+128); r != 0 || !bytes.Equal(c.got(dstPlace+128, 32), public[:]) {
			t.Errorf("elligator2_public returned %d", r)
		}
		peer, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if r := c.crypto(t, "x25519", keyPlace, c.put(srcPlace, peer.PublicKey().Bytes()), dstPlace); r != 0 {
			t.Errorf("x25519 returned %d", r)
		}
		ours, err := ecdh.X25519().NewPrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := ours.ECDH(peer.PublicKey()); !bytes.Equal(c.got(dstPlace, 32), want) {
			t.Error("x25519 gives another secret")
		}
	}
	for _, low := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	} {
		key, err := hex.DecodeString(low)
		if err != nil {
			t.Fatal(err)
		}
		if r := c.crypto(t, "x25519", keyPlace, c.put(srcPlace, key), dstPlace); r != -int32(eInval) {
			t.Errorf("x25519 of %s, a key of low order, returned %d", low, r)
		}
	}
}

// TestCryptoRefuses: what is forged, out of bounds, too long or unknown is an error, and
// nothing is written.
func TestCryptoRefuses(t *testing.T) {
	c := newCall(t, stream.Posix)
	c.put(keyPlace, noise(32))
	c.put(dstPlace, noise(4096))
	before := c.got(dstPlace, 4096)
	h := uint64(c.crypto(t, "aead_new", chaCha20Poly1305, keyPlace, 32))
	const end = 1 << 16
	for name, test := range map[string]struct {
		result int32
		want   errno
	}{
		"forged box":       {c.crypto(t, "secretbox_open", keyPlace, noncePlace, srcPlace, 100, dstPlace), eBadmsg},
		"short box":        {c.crypto(t, "secretbox_open", keyPlace, noncePlace, srcPlace, 15, dstPlace), eInval},
		"key outside":      {c.crypto(t, "secretbox_seal", end-31, noncePlace, srcPlace, 1, dstPlace), eFault},
		"source outside":   {c.crypto(t, "secretbox_seal", keyPlace, noncePlace, end-10, 11, dstPlace), eFault},
		"output outside":   {c.crypto(t, "secretbox_seal", keyPlace, noncePlace, srcPlace, 16, end-31), eFault},
		"wraps":            {c.crypto(t, "secretbox_seal", keyPlace, noncePlace, 1<<32-1, 2, dstPlace), eFault},
		"too long":         {c.crypto(t, "hash", 2, 0, maxCrypto+1, dstPlace), eInval},
		"unknown hash":     {c.crypto(t, "hash", 9, srcPlace, 1, dstPlace), eInval},
		"unknown AEAD":     {c.crypto(t, "aead_new", 9, keyPlace, 32), eInval},
		"long key":         {c.crypto(t, "aead_new", aesGCM, keyPlace, 33), eInval},
		"key of 24 bytes":  {c.crypto(t, "aead_new", aesGCM, keyPlace, 24), eInval},
		"no handle":        {c.crypto(t, "aead_seal", 999, noncePlace, 12, 0, 0, srcPlace, 1, dstPlace), eBadf},
		"handle 0":         {c.crypto(t, "aead_free", 0), eBadf},
		"short nonce":      {c.crypto(t, "aead_seal", h, noncePlace, 11, 0, 0, srcPlace, 1, dstPlace), eInval},
		"short ciphertext": {c.crypto(t, "aead_open", h, noncePlace, 12, 0, 0, srcPlace, 15, dstPlace), eBadmsg},
		"forged message":   {c.crypto(t, "aead_open", h, noncePlace, 12, 0, 0, srcPlace, 100, dstPlace), eBadmsg},
		"output too long":  {c.crypto(t, "aead_seal", h, noncePlace, 12, 0, 0, srcPlace, 16, end-31), eFault},
		"nonce of Salsa20": {c.crypto(t, "salsa20_xor", keyPlace, noncePlace, 12, srcPlace, 1, dstPlace), eInval},
		"counter":          {c.crypto(t, "chacha20_xor", keyPlace, noncePlace, 12, 1<<32-1, srcPlace, 65, dstPlace), eInval},
		"long context":     {c.crypto(t, "blake3_derive_key", srcPlace, maxKey+1, keyPlace, 32, dstPlace, 32), eInval},
		"derived outside":  {c.crypto(t, "blake3_derive_key", srcPlace, 10, keyPlace, 32, end-31, 32), eFault},
		"long HKDF":        {c.crypto(t, "hkdf", 2, keyPlace, 32, 0, 0, 0, 0, dstPlace, 255*32+1), eInval},
	} {
		if test.result != -int32(test.want) {
			t.Errorf("%s: returned %d, want %d", name, test.result, -int32(test.want))
		}
	}
	if !bytes.Equal(c.got(dstPlace, 4096), before) {
		t.Error("something was written")
	}
	if r := c.crypto(t, "chacha20_xor", keyPlace, noncePlace, 12, 1<<32-1, srcPlace, 64, dstPlace); r != 0 {
		t.Errorf("the last block: %d", r)
	}
}

// TestCryptoHandles: an instance has so many keys at most, and each is good until it is
// freed.
func TestCryptoHandles(t *testing.T) {
	c := newCall(t, stream.Posix)
	c.in.o.Limits.Conns = 3
	c.put(keyPlace, noise(32))
	var handles []uint64
	for range 3 * keysEach {
		handles = append(handles, uint64(c.crypto(t, "aead_new", chaCha20Poly1305, keyPlace, 32)))
	}
	if r := c.crypto(t, "aead_new", chaCha20Poly1305, keyPlace, 32); r != -int32(eMfile) {
		t.Errorf("one too many: %d", r)
	}
	if r := c.crypto(t, "aead_free", handles[1]); r != 0 {
		t.Errorf("aead_free: %d", r)
	}
	if r := c.crypto(t, "aead_free", handles[1]); r != -int32(eBadf) {
		t.Errorf("aead_free again: %d", r)
	}
	if r := c.crypto(t, "aead_seal", handles[1], noncePlace, 12, 0, 0, srcPlace, 1, dstPlace); r != -int32(eBadf) {
		t.Errorf("a key that was freed: %d", r)
	}
	if r := c.crypto(t, "aead_new", chaCha20Poly1305, keyPlace, 32); r <= 0 || slices.Contains(handles, uint64(r)) {
		t.Errorf("a new one: %d", r)
	}
}

// FuzzCrypto: whatever a module asks for is done or refused, and nothing fails.
func FuzzCrypto(f *testing.F) {
	f.Add(uint8(0), uint32(keyPlace), uint32(noncePlace), uint32(srcPlace), uint32(100), uint32(dstPlace), uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add(uint8(2), uint32(keyPlace), uint32(dstPlace), uint32(3), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add(uint8(7), uint32(1), uint32(keyPlace), uint32(32), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add(uint8(4), uint32(keyPlace), uint32(16), uint32(1<<32-1), uint32(0), uint32(1<<31), uint32(5), uint32(0), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, which uint8, a, b, c, d, e, g, h, i, j uint32) {
		host := newCall(t, stream.Posix)
		f := cryptoFuncs[int(which)%len(cryptoFuncs)]
		stack := make([]uint64, 9)
		for n, v := range []uint32{a, b, c, d, e, g, h, i, j} {
			stack[n] = uint64(v)
		}
		f.call(host, stack[:len(f.params)])
		if r := int32(uint32(stack[0])); r < 0 && !slices.Contains([]errno{eInval, eFault, eBadmsg, eBadf, eMfile}, errno(-r)) {
			t.Errorf("%s returned %d", f.name, r)
		}
	})
}
