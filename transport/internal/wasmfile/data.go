package wasmfile

import (
	"errors"
	"fmt"
	"slices"
)

const (
	dataSection      = 11
	dataCountSection = 12
)

// Image is the content of a memory as a module's data segments leave it.
type Image struct {
	Offset uint64 // of the first byte, in the memory
	Bytes  []byte
}

// errInPlace means that a module's data has to stay where it is.
var errInPlace = errors.New("the data segments cannot be taken out")

// TakeData parts a module from its data segments. A standard Go module has
// twenty thousand of them, which take longer to apply, one by one, than the
// module takes to start; as an image they can be mapped, and instances share the
// pages that they do not write to. If that is not possible (segments that the
// code uses by itself, or that are placed by a global), the module is returned
// as it is, with an empty image.
func TakeData(wasm []byte) ([]byte, Image, error) {
	sections, err := split(wasm)
	if err != nil {
		return nil, Image{}, err
	}
	data := find(sections, dataSection)
	memory, err := ReadMemory(wasm)
	if err != nil {
		return nil, Image{}, err
	}
	used, err := usesSegments(find(sections, codeSection))
	if err != nil {
		return nil, Image{}, fmt.Errorf("code section: %w", err)
	}
	if data == nil || used || memory.Shared {
		return wasm, Image{}, nil
	}
	image, err := readImage(data, memory.Min)
	if errors.Is(err, errInPlace) {
		return wasm, Image{}, nil
	}
	if err != nil {
		return nil, Image{}, fmt.Errorf("data section: %w", err)
	}
	sections = slices.DeleteFunc(sections, func(s section) bool {
		return s.id == dataSection || s.id == dataCountSection
	})
	return join(sections, len(wasm)), image, nil
}

// usesSegments reports whether the code has instructions that name data segments.
func usesSegments(code []byte) (bool, error) {
	if code == nil {
		return false, nil
	}
	r := &reader{b: code}
	for range r.count() {
		f := &reader{b: r.bytes(r.u32())}
		for range f.count() { // locals
			f.lebs(2)
		}
		for f.more() {
			if f.next().segment {
				return true, nil
			}
		}
		if err := errors.Join(r.err, f.err); err != nil {
			return false, err
		}
	}
	return false, r.err
}

// readImage puts all data segments in their places.
func readImage(data []byte, memory uint64) (Image, error) {
	type segment struct {
		at    uint64
		bytes []byte
	}
	var segments []segment
	low, high, sum := memory, uint64(0), uint64(0)
	r := &reader{b: data}
	for range r.count() {
		const i32Const, end = 0x41, 0x0b
		if mode := r.u32(); mode != 0 || r.byte() != i32Const {
			return Image{}, errInPlace
		}
		at := uint64(uint32(r.s32()))
		if r.byte() != end {
			return Image{}, errInPlace
		}
		b := r.bytes(r.u32())
		if r.err != nil {
			return Image{}, r.err
		}
		if at+uint64(len(b)) > memory {
			return Image{}, errInPlace // wazero says what is wrong with it
		}
		segments = append(segments, segment{at, b})
		sum += uint64(len(b))
		low, high = min(low, at), max(high, at+uint64(len(b)))
	}
	if r.err != nil || high <= low {
		return Image{}, errors.Join(r.err, errInPlace)
	}
	if high-low > 4*sum+1<<20 {
		return Image{}, errInPlace // mostly holes, which should not take memory here
	}
	image := Image{low, make([]byte, high-low)}
	for _, s := range segments {
		copy(image.Bytes[s.at-low:], s.bytes)
	}
	return image, nil
}
