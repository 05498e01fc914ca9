// Package wasmfile reads and rewrites WebAssembly binaries, as far as the
// runtime needs it: see [AddStop].
package wasmfile

import (
	"errors"
	"fmt"
)

// errShort means that the file ends in the middle of something.
var errShort = errors.New("unexpected end")

// reader walks over a binary. After an error every method returns zero.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: %w", r.at, err)
	}
	r.at = len(r.b)
}

func (r *reader) more() bool { return r.err == nil && r.at < len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) skip(n int) {
	if n < 0 || n > len(r.b)-r.at {
		r.fail(errShort)
		return
	}
	r.at += n
}

// bytes returns the next n bytes, without a copy.
func (r *reader) bytes(n uint32) []byte {
	start := r.at
	r.skip(int(n))
	if r.err != nil {
		return nil
	}
	return r.b[start:r.at]
}

// u32 reads an unsigned LEB128 number.
func (r *reader) u32() (v uint32) {
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint32(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
	r.fail(errors.New("a number is too long"))
	return 0
}

// s32 reads a signed LEB128 number.
func (r *reader) s32() (v int32) {
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= int32(b&0x7f) << shift
		if b&0x80 == 0 {
			if shift < 28 && b&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	r.fail(errors.New("a number is too long"))
	return 0
}

// leb skips a LEB128 number of up to 64 bits.
func (r *reader) leb() {
	for range 10 {
		if r.byte()&0x80 == 0 {
			return
		}
	}
	r.fail(errors.New("a number is too long"))
}

// lebs skips n numbers.
func (r *reader) lebs(n int) {
	for range n {
		r.leb()
	}
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS32(b []byte, v int32) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendVec(b, content []byte) []byte {
	return append(appendU32(b, uint32(len(content))), content...)
}
