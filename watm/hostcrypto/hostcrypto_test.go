package hostcrypto

import (
	"bytes"
	"crypto/rand"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
)

// TestBoxOverlaps: boxes are those of x/crypto, wherever the output lies, and a forged one
// is refused.
func TestBoxOverlaps(t *testing.T) {
	var key [KeySize]byte
	var nonce [NonceSize]byte
	rand.Read(key[:])
	rand.Read(nonce[:])
	text := []byte("a message that is longer than one block of the cipher, so that it shows")
	want := secretbox.Seal(nil, text, &nonce, &key)
	for offset := range 2*Overhead + 1 {
		buf := make([]byte, 4*Overhead+len(want))
		message := buf[Overhead : Overhead+len(text)]
		copy(message, text)
		box := SealBox(buf[offset:offset], message, &nonce, &key)
		if !bytes.Equal(box, want) {
			t.Errorf("sealed at %d it is another box", offset)
		}
		got, ok := OpenBox(buf[:0], box, &nonce, &key)
		if !ok || !bytes.Equal(got, text) {
			t.Errorf("opened from %d it is %q, %v", offset, got, ok)
		}
	}
	want[0] ^= 1
	if _, ok := OpenBox(nil, want, &nonce, &key); ok {
		t.Error("a forged box is opened")
	}
	if _, ok := OpenBox(nil, want[:Overhead-1], &nonce, &key); ok {
		t.Error("a box without room for its tag is opened")
	}
}

// TestKeys: both sides of an exchange have the same secret, also with a key that went over
// the wire as its representative.
func TestKeys(t *testing.T) {
	var private, plain, base [KeySize]byte
	base[0] = 9
	var public, representative [KeySize]byte
	for ok := false; !ok; {
		rand.Read(private[:])
		public, representative, ok = Elligator2Key(&private, private[1])
	}
	if Elligator2Public(&representative) != public {
		t.Error("the representative stands for another key")
	}
	rand.Read(plain[:])
	plainPublic, _ := X25519(&plain, &base)
	one, ok1 := X25519(&private, &plainPublic)
	two, ok2 := X25519(&plain, &public)
	if !ok1 || !ok2 || one != two {
		t.Error("the two sides do not agree")
	}
	if _, ok := X25519(&private, new([KeySize]byte)); ok {
		t.Error("a key of low order is taken")
	}
}
