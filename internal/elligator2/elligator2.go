// Package elligator2 makes X25519 public keys that look like random bytes: Elligator 2
// (Bernstein, Hamburg, Krasnova and Lange, "Elligator: elliptic-curve points
// indistinguishable from uniform random strings", 2013, section 5) on Curve25519. The
// arithmetic is that of filippo.io/edwards25519.
package elligator2

import (
	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// Size is the length of a representative, and of the keys, in bytes.
const Size = 32

// Bits of a representative's last byte that hold nothing: the field's elements have 255
// bits, and a representative is the smaller one of two roots.
const unusedBits = 0xc0

var (
	one   = new(field.Element).One()
	curve = new(field.Element).Mult32(one, 486662) // A of the curve v^2 = u^3 + A u^2 + u
	// torsion has the multiples of a point of order 8.
	torsion [8]*edwards25519.Point
)

func init() {
	// The encoding of a point of order 8.
	order8, err := new(edwards25519.Point).SetBytes([]byte{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	})
	if err != nil {
		panic(err) // it is a constant
	}
	p := edwards25519.NewIdentityPoint()
	for i := range torsion {
		torsion[i] = p
		p = new(edwards25519.Point).Add(p, order8)
	}
}

// NewKey computes the public key of an X25519 private key, and a representative of it that
// cannot be told from random bytes if private and tweak are random. ok reports whether
// there is one: half of all private keys have none.
//
// A public key as X25519 makes it is a multiple of 8, which random points are not. So a
// point of low order, chosen by the bits of the private key that X25519 ignores, is added.
// X25519 with the key gives the same as with the one it was made of.
func NewKey(private *[Size]byte, tweak byte) (public, representative [Size]byte, ok bool) {
	scalar, err := new(edwards25519.Scalar).SetBytesWithClamping(private[:])
	if err != nil {
		return public, representative, false // it has that length
	}
	p := new(edwards25519.Point).ScalarBaseMult(scalar)
	// The choice may show in the time that it takes: these bits are no part of the key.
	p.Add(p, torsion[private[0]&7])
	copy(public[:], p.BytesMontgomery())
	representative, ok = represent(public[:], tweak)
	return public, representative, ok
}

// represent returns the representative of the point whose u is given, for one of its two
// signs.
func represent(u []byte, tweak byte) (representative [Size]byte, ok bool) {
	num, err := new(field.Element).SetBytes(u)
	if err != nil {
		return representative, false
	}
	den := new(field.Element).Add(num, curve)
	num.Swap(den, int(tweak&1))
	// r^2 = -u / 2(u+A), or, for the other sign, -(u+A) / 2u
	num.Negate(num)
	den.Add(den, den)
	r, square := new(field.Element).SqrtRatio(num, den)
	// Of the two roots it is the one up to (p-1)/2: the double of the other one is odd.
	double := new(field.Element).Add(r, r)
	r.Select(new(field.Element).Negate(r), r, double.IsNegative())
	copy(representative[:], r.Bytes())
	representative[Size-1] |= tweak & unusedBits
	return representative, square == 1
}

// Public returns the public key that a representative stands for. Any 32 bytes do.
func Public(representative *[Size]byte) (public [Size]byte) {
	bytes := *representative
	bytes[Size-1] &^= unusedBits
	r, err := new(field.Element).SetBytes(bytes[:])
	if err != nil {
		return public // it has that length
	}
	// w = -A / (1 + 2 r^2); u is w if that is on the curve, and otherwise -w - A.
	w := new(field.Element).Square(r)
	w.Add(w, w).Add(w, one)
	w.Invert(w).Multiply(w, curve).Negate(w)
	other := new(field.Element).Add(w, curve)
	other.Negate(other)
	// v^2 = ((u + A) u + 1) u
	v2 := new(field.Element).Add(w, curve)
	v2.Multiply(v2, w).Add(v2, one).Multiply(v2, w)
	_, onCurve := new(field.Element).SqrtRatio(v2, one)
	u := new(field.Element).Select(w, other, onCurve)
	copy(public[:], u.Bytes())
	return public
}
