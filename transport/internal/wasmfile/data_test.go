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
	if image, err := readImage(data, 1<<31); !errors.Is(err, errInPlace) {
		t.Errorf("an image of %d bytes, error %v", len(image.Bytes), err)
	}
}

func TestImage(t *testing.T) {
	data := []byte{3,
		0, opI32Const, 8, opEnd, 2, 'a', 'b',
		0, opI32Const, 12, opEnd, 1, 'd',
		0, opI32Const, 9, opEnd, 2, 'B', 'c'} // a later one comes on top
	image, err := readImage(data, 64)
	if err != nil || image.Offset != 8 || string(image.Bytes) != "aBc\x00d" {
		t.Errorf("image %+v, error %v", image, err)
	}
	if _, err := readImage(data, 12); !errors.Is(err, errInPlace) {
		t.Errorf("data beyond the memory: error %v", err)
	}
}
