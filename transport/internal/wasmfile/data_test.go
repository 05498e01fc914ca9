package wasmfile

import (
	"errors"
	"testing"
)

// TestHolesTakeNoMemory: two bytes at the ends of a large memory.
func TestHolesTakeNoMemory(t *testing.T) {
	data := []byte{2,
		0, opI32Const, 0, opEnd, 1, 'a'}
	data = append(appendS32(append(data, 0, opI32Const), 1<<30), opEnd, 1, 'b')
	if image, err := imageOf(data, 1<<31); !errors.Is(err, errInPlace) {
		t.Errorf("an image of %d bytes, error %v", len(image.Bytes), err)
	}
}

func TestImage(t *testing.T) {
	data := []byte{3,
		0, opI32Const, 8, opEnd, 2, 'a', 'b',
		0, opI32Const, 12, opEnd, 1, 'd',
		0, opI32Const, 9, opEnd, 2, 'B', 'c'} // a later one comes on top
	image, err := imageOf(data, 64)
	if err != nil || image.Offset != 8 || string(image.Bytes) != "aBc\x00d" {
		t.Errorf("image %+v, error %v", image, err)
	}
	if _, err := imageOf(data, 12); !errors.Is(err, errInPlace) {
		t.Errorf("data beyond the memory: error %v", err)
	}
}

func imageOf(data []byte, memory uint64) (Image, error) {
	var active []dataSegment
	if _, err := parseData(data, func(s dataSegment) { active = append(active, s) }); err != nil {
		return Image{}, err
	}
	return makeImage(active, memory)
}

// TestPassiveDataStays: segments that the code names keep their numbers.
func TestPassiveDataStays(t *testing.T) {
	data := []byte{3,
		1, 2, 'a', 'b',
		0, opI32Const, 8, opEnd, 1, 'c',
		1, 1, 'd'}
	left, err := parseData(data, func(s dataSegment) {
		if s.at != 8 || string(s.bytes) != "c" {
			t.Errorf("segment %+v", s)
		}
	})
	want := "\x01\x02ab\x01\x00\x01\x01d"
	if err != nil || left == nil || left.n != 3 || string(left.items) != want {
		t.Errorf("left %+v, error %v", left, err)
	}
}
