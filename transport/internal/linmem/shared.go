package linmem

import (
	"errors"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// Shared is one memory that several wazero instances use. It implements
// [experimental.MemoryAllocator] for the one that makes it, and is there until
// Release: wazero frees a memory with the first instance that closes, whoever else
// uses it.
type Shared struct {
	all    []byte
	mapped bool
	size   atomic.Uint64 // bytes in use
	// HasRoom reports whether the memory may have so many bytes; nil: as many as there are.
	// It is set before the memory is used.
	HasRoom func(size uint64) bool
}

// NewShared returns a memory that may grow to size bytes and holds the image at
// first, which may be nil.
func NewShared(size uint64, image *Image) (*Shared, error) {
	if size > 0 {
		if b, err := reserve(size); err == nil {
			if image == nil || image.mapInto(b) {
				return &Shared{all: b, mapped: true}, nil
			}
			release(b)
			return nil, errImage
		}
	}
	s := &Shared{all: make([]byte, size)}
	if image != nil && !image.copyInto(s.all) {
		return nil, errImage
	}
	return s, nil
}

var errImage = errors.New("the initial content of the memory cannot be read back")

// Bytes returns all of the memory, used or not.
func (s *Shared) Bytes() []byte { return s.all }

// Size returns how many bytes are in use. It may be called at any time.
func (s *Shared) Size() uint64 { return s.size.Load() }

// Allocate implements experimental.MemoryAllocator.
func (s *Shared) Allocate(_, _ uint64) experimental.LinearMemory { return s }

// Reallocate implements experimental.LinearMemory. The memory never moves.
func (s *Shared) Reallocate(size uint64) []byte {
	if size > uint64(len(s.all)) || s.HasRoom != nil && !s.HasRoom(size) {
		return nil
	}
	s.size.Store(size)
	return s.all[:size]
}

// Free implements experimental.LinearMemory. It does nothing: see Release.
func (s *Shared) Free() {}

// Release gives the memory back. Nobody may use it any more.
func (s *Shared) Release() {
	if s.mapped {
		release(s.all)
	}
	s.all = nil
	s.size.Store(0)
}
