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
// code uses directly, or that are placed by a global), the module is returned
// unchanged, with an empty image.
//
// Each thread of a module with a shared memory is an instance of its own, which
// must not write the data once more. So there active segments have to go, also if
// the code uses others; where that is not possible it is an error.
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
	if data == nil || used && !memory.Shared {
		return wasm, Image{}, nil
	}
	var active []dataSegment
	left, err := parseData(data, func(s dataSegment) { active = append(active, s) })
	if err == nil && left != nil && !memory.Shared {
		err = errInPlace
	}
	var image Image
	if err == nil && len(active) > 0 {
		image, err = makeImage(active, memory.Min)
	}
	if errors.Is(err, errInPlace) && !memory.Shared {
		return wasm, Image{}, nil
	}
	if err != nil {
		return nil, Image{}, fmt.Errorf("data section: %w", err)
	}
	if left != nil {
		return join(put(sections, dataSection, left.n, left.items), len(wasm)), image, nil
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

// dataSegment is one that is written to memory at the start.
type dataSegment struct {
	at    uint64
	bytes []byte
}

// passive is a data section without its active segments: an empty one stands in
// the place of each, as the code finds it once it is written.
type passive struct {
	n     uint32
	items []byte
}

// parseData calls f for each active segment. It returns what is left without
// them, nil if they are all.
func parseData(data []byte, f func(dataSegment)) (*passive, error) {
	const isPassive, i32Const, end = 1, 0x41, 0x0b
	left, others := &passive{}, false
	r := &reader{b: data}
	for range r.count() {
		left.n++
		switch mode := r.u32(); mode {
		case isPassive:
			others = true
			left.items = appendVec(append(left.items, isPassive), r.bytes(r.u32()))
		case 0:
			if r.byte() != i32Const {
				return nil, errInPlace
			}
			at := uint64(uint32(r.s32()))
			if r.byte() != end {
				return nil, errInPlace
			}
			b := r.bytes(r.u32())
			if r.err == nil && len(b) > 0 {
				f(dataSegment{at, b})
			}
			left.items = append(left.items, isPassive, 0)
		default:
			return nil, errInPlace
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	if !others {
		left = nil
	}
	return left, r.err
}

// makeImage puts segments in their places.
func makeImage(segments []dataSegment, memory uint64) (Image, error) {
	low, high, sum := memory, uint64(0), uint64(0)
	for _, s := range segments {
		size := uint64(len(s.bytes))
		if s.at+size > memory {
			return Image{}, errInPlace // wazero's error is better
		}
		sum += size
		low, high = min(low, s.at), max(high, s.at+size)
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
