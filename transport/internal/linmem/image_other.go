//go:build !linux

package linmem

// sharedFile does not exist here: each memory gets a copy of the image.
type sharedFile struct{}

func (i *Image) share() bool { return false }

func (i *Image) mapInto(memory []byte) bool { return i.copyInto(memory) }

func (sharedFile) readInto([]byte) bool { return false }
