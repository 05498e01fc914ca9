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

// share puts the image's pages into an anonymous file, if there can be one.
func (i *Image) share() bool {
	page := uint64(os.Getpagesize())
	start := i.offset / page * page
	size := (i.offset + uint64(len(i.bytes)) - start + page - 1) / page * page
	// The walls of the process let no file be made in memory that could be run.
	fd, err := unix.MemfdCreate("waterproxy-image", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("waterproxy-image", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return false // an old kernel: copying does as well
	}
	content := make([]byte, size)
	copy(content[i.offset-start:], i.bytes)
	for at := 0; at < len(content); {
		n, err := unix.Pwrite(fd, content[at:], int64(at))
		if err != nil || n == 0 {
			_ = unix.Close(fd)
			return false
		}
		at += n
	}
	i.file = sharedFile{fd, start, size}
	runtime.AddCleanup(i, func(fd int) { _ = unix.Close(fd) }, fd)
	return true
}

// readInto is copyInto, from the file.
func (f sharedFile) readInto(memory []byte) bool {
	to := memory[f.offset:min(f.offset+f.size, uint64(len(memory)))]
	for at := 0; at < len(to); {
		n, err := unix.Pread(f.fd, to[at:], int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		at += n
	}
	return true
}

// mapInto gives a fresh memory the image's content. It reports whether that is possible.
func (i *Image) mapInto(memory []byte) bool {
	f := i.file
	if f.fd == 0 || f.offset+f.size > uint64(len(memory)) {
		return i.copyInto(memory)
	}
	at := unsafe.Pointer(&memory[f.offset])
	_, err := unix.MmapPtr(f.fd, 0, at, uintptr(f.size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	done := err == nil || i.copyInto(memory)
	runtime.KeepAlive(i)
	return done
}
