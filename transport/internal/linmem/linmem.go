// Package linmem provides the linear memory of module instances: mapped outside
// the Go heap, given page by page as it is touched, capped, and with its initial
// content shared between instances where the system can do that.
package linmem

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// Allocator makes the memory of one instance, of at most Limit bytes. It implements
// [experimental.MemoryAllocator].
type Allocator struct {
	Limit uint64 // bytes
	Image *Image // what a memory holds at first; nil for zeros
	// Beside returns what counts for Limit besides the memory; nil is nothing.
	Beside func() uint64

	size atomic.Uint64
}

// hasRoom reports whether the memory may have a size.
func (a *Allocator) hasRoom(size uint64) bool { return a.Beside == nil || size+a.Beside() <= a.Limit }

// Size returns how many bytes the memory has. It may be called at any time.
func (a *Allocator) Size() uint64 { return a.size.Load() }

// Allocate implements experimental.MemoryAllocator. A memory's address never
// changes unless the system has no address space to reserve.
func (a *Allocator) Allocate(_, max uint64) experimental.LinearMemory {
	size := min(max, a.Limit)
	if size > 0 {
		if b, err := reserve(size); err == nil {
			if a.Image == nil || a.Image.mapInto(b) {
				return &mapped{b, a}
			}
			release(b)
		}
	}
	// A slice that grows by copying does as well.
	return &slice{limit: size, image: a.Image, owner: a}
}

// mapped is a reserved range of which the first part is in use.
type mapped struct {
	all   []byte
	owner *Allocator
}

// Reallocate implements experimental.LinearMemory. Beyond the limit it returns
// nil, which the module sees as a failed memory.grow.
func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) || !m.owner.hasRoom(size) {
		return nil
	}
	m.owner.size.Store(size)
	return m.all[:size]
}

// Free implements experimental.LinearMemory.
func (m *mapped) Free() {
	if m.all != nil {
		release(m.all)
		m.all = nil
		m.owner.size.Store(0)
	}
}

type slice struct {
	b     []byte
	limit uint64
	image *Image // to be copied when there is memory for it
	owner *Allocator
}

func (s *slice) Reallocate(size uint64) []byte {
	if size > s.limit || !s.owner.hasRoom(size) {
		return nil
	}
	if size > uint64(cap(s.b)) {
		b := make([]byte, size)
		copy(b, s.b)
		s.b = b
	}
	s.b = s.b[:size]
	if s.image != nil {
		if !s.image.copyInto(s.b) {
			return nil
		}
		s.image = nil
	}
	s.owner.size.Store(size)
	return s.b
}

func (s *slice) Free() {
	s.b = nil
	s.owner.size.Store(0)
}

// Image is the initial content of memories, from an offset on. It is safe for
// concurrent use.
type Image struct {
	offset uint64
	bytes  []byte // nil if a file has them
	file   sharedFile
}

// NewImage returns an image of bytes at an offset, which must fit into every
// memory that is made with it.
func NewImage(offset uint64, bytes []byte) *Image {
	i := &Image{offset: offset, bytes: bytes}
	if len(bytes) >= shareFrom && i.share() {
		i.bytes = nil
	}
	return i
}

// shareFrom is the size from which on an image is shared. Mapping a file brings
// in more pages around each that is touched, which a small one is not worth.
const shareFrom = 256 << 10

// copyInto gives a memory the image's content. It reports whether that is possible.
func (i *Image) copyInto(memory []byte) bool {
	if i.bytes == nil {
		return i.file.readInto(memory)
	}
	copy(memory[i.offset:], i.bytes)
	return true
}
