package wasmfile

// Memory is what a module declares about its linear memory.
type Memory struct {
	Min    uint64 // bytes
	Max    uint64 // bytes; 0 if it declares none
	HasMax bool
	Shared bool
}

// pageSize is that of WebAssembly linear memory.
const pageSize = 64 << 10

// ReadMemory returns the module's memory, which may be imported; the zero value
// if it has none.
func ReadMemory(wasm []byte) (m Memory, err error) {
	sections, err := split(wasm)
	if err != nil {
		return m, err
	}
	limits := []byte(nil)
	err = eachImport(find(sections, importSection), func(i importItem) {
		if i.kind == kindMemory {
			limits = i.limits
		}
	})
	if err != nil {
		return m, err
	}
	if body := find(sections, memorySection); body != nil {
		r := &reader{b: body}
		if n := r.u32(); r.err != nil || n == 0 {
			return m, r.err
		}
		limits = body[r.at:]
	}
	if limits == nil {
		return m, nil
	}
	r := &reader{b: limits}
	flags := r.byte()
	m.Min = uint64(r.u32()) * pageSize
	if m.HasMax = flags&limitsMax != 0; m.HasMax {
		m.Max = uint64(r.u32()) * pageSize
	}
	m.Shared = flags&limitsShared != 0
	return m, r.err
}
