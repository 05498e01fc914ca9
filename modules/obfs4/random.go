package main

import (
	"encoding/binary"
	"hash"

	"github.com/dchest/siphash"
)

// seedLength is that of a generator's seed, in bytes: a key of SipHash-2-4 and the first
// block.
const seedLength = 24

type seed = [seedLength]byte

// generator makes the same numbers on both sides: SipHash-2-4 over all blocks so far, each
// of which is the hash before it (obfs4-spec, section 2). It is a math/rand.Source.
type generator struct {
	sip   hash.Hash64
	block [8]byte
}

func newGenerator(s *seed) *generator {
	g := &generator{sip: siphash.New(s[:16])}
	copy(g.block[:], s[16:])
	return g
}

// next returns the next block.
func (g *generator) next() *[8]byte {
	_, _ = g.sip.Write(g.block[:]) // a hash has no error
	binary.LittleEndian.PutUint64(g.block[:], g.sip.Sum64())
	return &g.block
}

// Int63 implements math/rand.Source.
func (g *generator) Int63() int64 { return int64(binary.BigEndian.Uint64(g.next()[:]) &^ (1 << 63)) }

// Seed implements math/rand.Source. The seed is that of newGenerator.
func (g *generator) Seed(int64) {}
