package wasmfile

// Memory is what a module declares about its own linear memory.
type Memory struct {
	Min    uint64 // bytes
	Max    uint64 // bytes; 0 if it declares none
	Shared bool
}

// pageSize is that of WebAssembly linear memory.
const pageSize = 64 << 10

// ReadMemory returns the module's memory; the zero value if it has none of its
// own.
func ReadMemory(wasm []byte) (m Memory, err error) {
	sections, err := split(wasm)
	if err != nil {
		return m, err
	}
	body := find(sections, memorySection)
	if body == nil {
		return m, nil
	}
	r := &reader{b: body}
	if r.u32() == 0 {
		return m, r.err
	}
	const hasMax, shared = 1, 2
	flags := r.byte()
	m.Min = uint64(r.u32()) * pageSize
	if flags&hasMax != 0 {
		m.Max = uint64(r.u32()) * pageSize
	}
	m.Shared = flags&shared != 0
	return m, r.err
}
