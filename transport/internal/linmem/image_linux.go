package linmem

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sharedFile is an anonymous file that holds the image's pages, so that
// instances share those which they only read. Without one, pages are copied.
type sharedFile struct {
	fd     int // 0 if there is none
	offset uint64
	size   uint64
}

// share puts the image's pages into an anonymous file.
func (i *Image) share() {
	page := uint64(os.Getpagesize())
	start := i.offset / page * page
	size := (i.offset + uint64(len(i.bytes)) - start + page - 1) / page * page
	fd, err := unix.MemfdCreate("waterproxy-image", unix.MFD_CLOEXEC)
	if err != nil {
		return // an old kernel: copying does as well
	}
	content := make([]byte, size)
	copy(content[i.offset-start:], i.bytes)
	for at := 0; at < len(content); {
		n, err := unix.Pwrite(fd, content[at:], int64(at))
		if err != nil || n == 0 {
			_ = unix.Close(fd)
			return
		}
		at += n
	}
	i.file = sharedFile{fd, start, size}
	runtime.AddCleanup(i, func(fd int) { _ = unix.Close(fd) }, fd)
}

// mapInto gives a fresh memory the image's content.
func (i *Image) mapInto(memory []byte) {
	f := i.file
	if f.fd == 0 || f.offset+f.size > uint64(len(memory)) {
		i.copyInto(memory)
		return
	}
	at := unsafe.Pointer(&memory[f.offset])
	_, err := unix.MmapPtr(f.fd, 0, at, uintptr(f.size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		i.copyInto(memory)
	}
	runtime.KeepAlive(i)
}
