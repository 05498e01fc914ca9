package main

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/dchest/siphash"
)

const (
	// replayTTL is how long a handshake is remembered. Its MAC has the hour in it, and
	// is good for three hours.
	replayTTL = 3 * time.Hour
	// maxReplays bounds what is remembered; the oldest go first.
	maxReplays = 100 << 10
)

// replayFilter recognises handshakes that have been there before. It is safe for
// concurrent use.
type replayFilter struct {
	key0, key1 uint64 // so that nobody can make two handshakes look alike

	mu    sync.Mutex
	seen  map[uint64]struct{}
	order []sighting // the oldest first
}

type sighting struct {
	digest uint64
	at     time.Time
}

func newReplayFilter() *replayFilter {
	var key [16]byte
	random(key[:])
	return &replayFilter{
		key0: binary.LittleEndian.Uint64(key[:8]), key1: binary.LittleEndian.Uint64(key[8:]),
		seen: map[uint64]struct{}{},
	}
}

// isReplay reports whether a MAC has been there before, and remembers it.
func (f *replayFilter) isReplay(mac []byte, now time.Time) bool {
	digest := siphash.Hash(f.key0, f.key1, mac)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(now)
	if _, ok := f.seen[digest]; ok {
		return true
	}
	f.seen[digest] = struct{}{}
	f.order = append(f.order, sighting{digest, now})
	return false
}

// forget drops what is too old, or too much. If the clock has gone back it drops all: how
// old anything is, is unknown then.
func (f *replayFilter) forget(now time.Time) {
	n := 0
	for n < len(f.order) {
		age := now.Sub(f.order[n].at)
		if age < 0 {
			n = len(f.order)
			break
		}
		if age < replayTTL && len(f.order)-n < maxReplays {
			break
		}
		n++
	}
	for _, s := range f.order[:n] {
		delete(f.seen, s.digest)
	}
	if f.order = f.order[n:]; len(f.order) == 0 {
		f.order = nil // with its array
	}
}
