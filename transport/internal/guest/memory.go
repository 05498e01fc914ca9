package guest

import (
	"encoding/binary"
)

const (
	// maxIOVecs bounds the vectors of one call (POSIX IOV_MAX on Linux).
	maxIOVecs = 1024
	// maxTransfer is the most that one call moves; more is cut off, which a
	// module sees as a short read or write. Vectors may overlap, so memory is no
	// bound.
	maxTransfer = 4 << 20
	// maxWhole is the same for calls that must not be short.
	maxWhole = 1 << 30
)

// bytes returns n bytes of the module's memory at ptr.
func (c *call) bytes(ptr, n uint64) ([]byte, errno) {
	if c.mem == nil {
		return nil, eFault
	}
	b, ok := c.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		return nil, eFault
	}
	return b, eSuccess
}

// iovecs returns the buffers that an array of WASI iovecs (or ciovecs: the
// layout is the same) describes, up to maxTransfer. They are valid until the call
// ends.
func (c *call) iovecs(ptr, count uint64) ([][]byte, errno) {
	return c.iovecsUpTo(maxTransfer, ptr, count)
}

func (c *call) iovecsUpTo(limit int, ptr, count uint64) ([][]byte, errno) {
	n := uint32(count)
	if n > maxIOVecs {
		return nil, eInval
	}
	list, e := c.bytes(ptr, uint64(n)*8)
	if e != eSuccess {
		return nil, e
	}
	c.bufs = c.bufs[:0]
	for ; len(list) > 0; list = list[8:] {
		b, e := c.bytes(uint64(binary.LittleEndian.Uint32(list)), uint64(binary.LittleEndian.Uint32(list[4:])))
		if e != eSuccess {
			return nil, e
		}
		b = b[:min(len(b), limit)]
		limit -= len(b)
		c.bufs = append(c.bufs, b)
	}
	return c.bufs, eSuccess
}

// text copies a string out of the module's memory.
func (c *call) text(ptr, n uint64) (string, errno) {
	b, e := c.bytes(ptr, n)
	return string(b), e
}

func (c *call) put32(ptr uint64, v uint32) errno {
	if c.mem == nil || !c.mem.WriteUint32Le(uint32(ptr), v) {
		return eFault
	}
	return eSuccess
}

func (c *call) put64(ptr uint64, v uint64) errno {
	if c.mem == nil || !c.mem.WriteUint64Le(uint32(ptr), v) {
		return eFault
	}
	return eSuccess
}

// zero clears n bytes and returns them for filling in.
func (c *call) zero(ptr, n uint64) ([]byte, errno) {
	b, e := c.bytes(ptr, n)
	clear(b)
	return b, e
}
