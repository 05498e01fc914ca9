// Package prefix has the first bytes of a client's connection as a bridge line gives them
// in its argument prefix, for transports whose first packet would be random from its first
// byte: a censor that blocks what looks like nothing lets pass what begins like something.
//
// The value is URL-encoded, as in the access keys of Outline: POST%20 is "POST" and a
// space. A byte from 0x80 on is the character of that number in UTF-8: %C3%BF is 0xff.
// Beyond Outline, %p is a printable byte that is drawn for each connection.
package prefix

import (
	"crypto/rand"
	"errors"
	"math"
	"net/url"
	"strings"
)

// Printable bytes are those from ' ' to '~'.
const (
	firstPrintable = ' '
	printable      = '~' - ' ' + 1
)

// drawn stands in a Prefix for a printable byte that is drawn.
const drawn = 0x100

// drawnText is drawn in a bridge line. It is no URL encoding of anything.
const drawnText = "%p"

// Prefix is what a connection begins with. It is read-only, and safe for concurrent use.
type Prefix []uint16

// Parse reads the value of an argument. Errors do not name the argument, and quote nothing.
func Parse(text string) (p Prefix, err error) {
	for i, part := range strings.Split(text, drawnText) {
		if i > 0 {
			p = append(p, drawn)
		}
		plain, err := url.QueryUnescape(part)
		if err != nil {
			return nil, errors.New("it is not URL-encoded: a % comes before two hexadecimal digits, or before p for a printable byte that is drawn")
		}
		for _, r := range plain {
			if r > math.MaxUint8 { // also what is not UTF-8
				return nil, errors.New("it has a character beyond U+00FF; a byte from 80 on is written as UTF-8, as in %C3%BF for ff")
			}
			p = append(p, uint16(r))
		}
	}
	if len(p) == 0 {
		return nil, errors.New("it is empty")
	}
	return p, nil
}

// String returns the value of an argument that a bridge line can carry.
func (p Prefix) String() string {
	var b strings.Builder
	for _, c := range p {
		if c == drawn {
			b.WriteString(drawnText)
		} else {
			b.WriteString(url.QueryEscape(string(rune(c))))
		}
	}
	// A plus would do, but Outline's access keys have this.
	return strings.ReplaceAll(b.String(), "+", "%20")
}

// Fill writes the prefix to b, which is long enough.
func (p Prefix) Fill(b []byte) {
	for i, c := range p {
		if c == drawn {
			b[i] = drawPrintable()
		} else {
			b[i] = byte(c)
		}
	}
}

// drawPrintable draws a printable byte, each as probable as any other.
func drawPrintable() byte {
	const most = 256 / printable * printable
	for {
		var b [1]byte
		rand.Read(b[:]) // it never fails
		if b[0] < most {
			return firstPrintable + b[0]%printable
		}
	}
}

// Match reports whether b begins with the prefix.
func (p Prefix) Match(b []byte) bool {
	if len(b) < len(p) {
		return false
	}
	for i, c := range p {
		if c == drawn && (b[i] < firstPrintable || b[i] >= firstPrintable+printable) || c != drawn && byte(c) != b[i] {
			return false
		}
	}
	return true
}

// FixedBits returns how many bits of the first bytes the prefix decides: of so many random
// bits in their place, 2 to the power of it are needed for one that matches.
func (p Prefix) FixedBits() float64 {
	bits := 0.0
	for _, c := range p {
		bits += 8
		if c == drawn {
			bits -= math.Log2(printable)
		}
	}
	return bits
}
