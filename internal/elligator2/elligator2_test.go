package elligator2

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"

	"filippo.io/edwards25519"
	"gitlab.com/yawning/obfs4.git/common/ntor"
)

func random(t *testing.T) (b [Size]byte) {
	t.Helper()
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return b
}

// key returns a private key that has a representative.
func key(t *testing.T, tweak byte) (private, public, representative [Size]byte) {
	t.Helper()
	for {
		private = random(t)
		if public, representative, ok := NewKey(&private, tweak); ok {
			return private, public, representative
		}
	}
}

// TestTorsion: the points of low order are all eight of them.
func TestTorsion(t *testing.T) {
	for i, p := range torsion {
		for j, q := range torsion {
			if (p.Equal(q) == 1) != (i == j) {
				t.Errorf("%d and %d times the point", i, j)
			}
		}
		eight := new(edwards25519.Point).MultByCofactor(p)
		if eight.Equal(edwards25519.NewIdentityPoint()) != 1 {
			t.Errorf("%d times the point is not of low order", i)
		}
	}
}

// TestRoundTrip: a representative stands for its key, whatever the tweak is.
func TestRoundTrip(t *testing.T) {
	for i := range 200 {
		tweak := byte(i)
		_, public, representative := key(t, tweak)
		if got := Public(&representative); got != public {
			t.Fatalf("tweak %d: the representative stands for %x, want %x", tweak, got, public)
		}
		if representative[Size-1]&unusedBits != tweak&unusedBits {
			t.Errorf("tweak %#x: the last byte is %#x", tweak, representative[Size-1])
		}
	}
}

// TestHalf: about half of all keys have a representative.
func TestHalf(t *testing.T) {
	const n = 2000
	ok := 0
	for range n {
		private := random(t)
		if _, _, has := NewKey(&private, 0); has {
			ok++
		}
	}
	if ok < n*4/10 || ok > n*6/10 {
		t.Errorf("%d of %d keys have one", ok, n)
	}
}

// TestExchange: two keys give the same secret, and one with a key of plain X25519 does.
func TestExchange(t *testing.T) {
	secret := func(private, public [Size]byte) string {
		t.Helper()
		k, err := ecdh.X25519().NewPrivateKey(private[:])
		if err != nil {
			t.Fatal(err)
		}
		p, err := ecdh.X25519().NewPublicKey(public[:])
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.ECDH(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(s)
	}
	for range 50 {
		a, aPublic, aRepresentative := key(t, random(t)[0])
		b, bPublic, bRepresentative := key(t, random(t)[0])
		if secret(a, Public(&bRepresentative)) != secret(b, Public(&aRepresentative)) {
			t.Fatal("two keys do not agree")
		}
		plain := random(t)
		k, err := ecdh.X25519().NewPrivateKey(plain[:])
		if err != nil {
			t.Fatal(err)
		}
		if secret(a, [Size]byte(k.PublicKey().Bytes())) != secret(plain, aPublic) || secret(b, [Size]byte(k.PublicKey().Bytes())) != secret(plain, bPublic) {
			t.Fatal("one does not agree with plain X25519")
		}
	}
}

// TestReference: any bytes stand for the same key as in obfs4proxy's library, and its
// representatives for its keys.
func TestReference(t *testing.T) {
	for range 500 {
		bytes := random(t)
		r := ntor.Representative(bytes)
		if got, want := Public(&bytes), *r.ToPublic().Bytes(); got != want {
			t.Fatalf("%x stands for %x, want %x", bytes, got, want)
		}
	}
	for range 50 {
		k, err := ntor.NewKeypair(true)
		if err != nil {
			t.Fatal(err)
		}
		if got := Public(k.Representative().Bytes()); got != *k.Public().Bytes() {
			t.Fatalf("its representative stands for %x, want %x", got, *k.Public().Bytes())
		}
		_, public, representative := key(t, 0xff)
		theirs := ntor.Representative(representative)
		if got := *theirs.ToPublic().Bytes(); got != public {
			t.Fatalf("it takes ours for %x, want %x", got, public)
		}
	}
}

func BenchmarkNewKey(b *testing.B) {
	var private [Size]byte
	for i := range b.N {
		private[8], private[9], private[10] = byte(i), byte(i>>8), byte(i>>16)
		NewKey(&private, 0)
	}
}

func BenchmarkPublic(b *testing.B) {
	var r [Size]byte
	for range b.N {
		Public(&r)
	}
}
