package guest

import (
	"context"
	"encoding/binary"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"waterproxy/transport/internal/linmem"
	"waterproxy/transport/internal/wasmfile"
)

// sharedMemory is the memory of an instance that may have several threads. To
// wazero each thread is an instance, which imports it.
type sharedMemory struct {
	bytes  *linmem.Shared
	origin api.Module // from which threads import it
	futex  futex
}

// newSharedMemory makes a memory that can grow as far as the module declares, but
// no further than limit, and where there is room.
func (m *Module) newSharedMemory(ctx context.Context, limit uint64, room func(uint64) bool) (*sharedMemory, error) {
	size := min(m.memory.Max, limit) / pageSize * pageSize
	c, err := m.engine.origin(ctx, m.memory.Min, size)
	if err != nil {
		return nil, err
	}
	bytes, err := linmem.NewShared(size, m.image)
	if err != nil {
		return nil, err
	}
	bytes.HasRoom = room
	s := &sharedMemory{bytes: bytes}
	s.origin, err = m.engine.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, s.bytes), c,
		wazero.NewModuleConfig().WithName(""))
	if err != nil {
		s.bytes.Release()
		return nil, err
	}
	// Closed at once, it can be imported from like before, and lets go of the
	// allocator, which any thread that ends would otherwise make free the
	// memory of all.
	return s, s.origin.Close(ctx)
}

// pageSize is that of WebAssembly linear memory.
const pageSize = 64 << 10

// resolve is where the module's imports come from; nil stands for the host modules.
func (s *sharedMemory) resolve(name string) api.Module {
	if name == wasmfile.MemoryModule {
		return s.origin
	}
	return nil
}

// used returns the part of the memory that the module has. Other threads may be
// growing it: wazero's lock on that is within Grow.
func (s *sharedMemory) used() []byte {
	pages, _ := s.origin.Memory().Grow(0)
	return s.bytes.Bytes()[:uint64(pages)*pageSize]
}

// Read implements memory.
func (s *sharedMemory) Read(at, n uint32) ([]byte, bool) {
	b := s.used()
	if uint64(at)+uint64(n) > uint64(len(b)) {
		return nil, false
	}
	end := int(at) + int(n)
	return b[at:end:end], true
}

// WriteUint32Le implements memory.
func (s *sharedMemory) WriteUint32Le(at, v uint32) bool {
	b, ok := s.Read(at, 4)
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

// WriteUint64Le implements memory.
func (s *sharedMemory) WriteUint64Le(at uint32, v uint64) bool {
	b, ok := s.Read(at, 8)
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}

// origin compiles the module that memories of a size come from. It has no code,
// and is kept.
func (e *engine) origin(ctx context.Context, min, max uint64) (wazero.CompiledModule, error) {
	e.originsMu.Lock()
	defer e.originsMu.Unlock()
	key := [2]uint64{min, max}
	if c := e.origins[key]; c != nil {
		return c, nil
	}
	c, err := e.compileUnkept(ctx, wasmfile.NewMemory(min, max))
	if err == nil {
		e.origins[key] = c
	}
	return c, err
}
