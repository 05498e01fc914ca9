//go:build !linux

package linmem

// sharedFile does not exist here: each memory gets a copy of the image.
type sharedFile struct{}

func (i *Image) share() {}

func (i *Image) mapInto(memory []byte) { i.copyInto(memory) }
