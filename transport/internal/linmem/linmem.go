// Package linmem provides the linear memory of module instances: mapped outside
// the Go heap, given page by page as it is touched, and capped.
package linmem

import "github.com/tetratelabs/wazero/experimental"

// Allocator makes memories of at most Limit bytes each. It implements
// [experimental.MemoryAllocator].
type Allocator struct {
	Limit uint64 // bytes
}

// Allocate implements experimental.MemoryAllocator. A memory's address never
// changes.
func (a *Allocator) Allocate(_, max uint64) experimental.LinearMemory {
	size := min(max, a.Limit)
	if size > 0 {
		if b, err := reserve(size); err == nil {
			return &mapped{b}
		}
	}
	// No address space to reserve: a slice that grows by copying does as well.
	return &slice{limit: size}
}

// mapped is a reserved range of which the first part is in use.
type mapped struct{ all []byte }

// Reallocate implements experimental.LinearMemory. Beyond the limit it returns
// nil, which the module sees as a failed memory.grow.
func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	return m.all[:size]
}

// Free implements experimental.LinearMemory.
func (m *mapped) Free() {
	if m.all != nil {
		release(m.all)
		m.all = nil
	}
}

type slice struct {
	b     []byte
	limit uint64
}

func (s *slice) Reallocate(size uint64) []byte {
	if size > s.limit {
		return nil
	}
	if size > uint64(cap(s.b)) {
		b := make([]byte, size)
		copy(b, s.b)
		s.b = b
	}
	s.b = s.b[:size]
	return s.b
}

func (s *slice) Free() { s.b = nil }
