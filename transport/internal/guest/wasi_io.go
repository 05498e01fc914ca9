package guest

import (
	"encoding/binary"
	"io"
	"time"

	"waterproxy/transport/internal/stream"
)

// WASI preview 1 file types and descriptor flags.
const (
	typeUnknown   = 0
	typeCharacter = 2
	typeDirectory = 3
	typeRegular   = 4
	typeDatagram  = 5
	typeStream    = 6

	flagAppend   = 1 << 0
	flagNonblock = 1 << 2

	allRights = 1<<30 - 1

	shutRead  = 1 << 0
	shutWrite = 1 << 1

	recvPeek = 1 << 0
)

// ioFuncs are the WASI functions on descriptors of any kind, and on sockets.
var ioFuncs = []hostFunc{
	wasiFunc("fd_read", fdRead, i32, i32, i32, i32),
	wasiFunc("fd_write", fdWrite, i32, i32, i32, i32),
	wasiFunc("fd_close", fdClose, i32),
	wasiFunc("fd_fdstat_get", fdFdstatGet, i32, i32),
	wasiFunc("fd_fdstat_set_flags", fdFdstatSetFlags, i32, i32),
	wasiFunc("fd_fdstat_set_rights", fdFdstatSetRights, i32, i64, i64),
	wasiFunc("fd_renumber", fdRenumber, i32, i32),
	wasiFunc("sock_recv", sockRecv, i32, i32, i32, i32, i32, i32),
	wasiFunc("sock_send", sockSend, i32, i32, i32, i32, i32),
	wasiFunc("sock_shutdown", sockShutdown, i32, i32),
	wasiFunc("sock_accept", sockAccept, i32, i32, i32),
}

// fd_read(fd, iovs, iovs_len, nread)
func fdRead(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	bufs, e := c.iovecs(a[1], a[2])
	if e != eSuccess {
		return e
	}
	var n int
	switch {
	case d.endpoint != nil:
		n, e = c.readPort(d, bufs)
	case d.file != nil:
		n, e = d.file.read(bufs)
	default: // standard output cannot be read; standard input is at its end
	}
	if e != eSuccess {
		return e
	}
	return c.put32(a[3], uint32(n))
}

// fd_write(fd, iovs, iovs_len, nwritten)
func fdWrite(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	bufs, e := c.outgoing(d, a[1], a[2])
	if e != eSuccess {
		return e
	}
	var n int
	switch {
	case d.endpoint != nil:
		n, e = c.writePort(d, bufs)
	case d.file != nil:
		n, e = d.file.write(bufs)
	case d.output != nil:
		n = d.output.write(bufs)
	default:
		return eBadf
	}
	if e != eSuccess {
		return e
	}
	return c.put32(a[3], uint32(n))
}

// readPort reads once, waiting for bytes if the descriptor blocks.
func (c *call) readPort(d *descriptor, bufs [][]byte) (int, errno) {
	for {
		if !c.in.heldBack(d.endpoint, c.waiter) {
			n, err := d.endpoint.Read(bufs)
			switch err {
			case nil:
				c.moved()
				return n, eSuccess
			case io.EOF:
				return 0, eSuccess
			case stream.ErrWouldBlock:
			default:
				return 0, toErrno(err)
			}
		}
		if d.nonblock.Load() {
			if d.watched(stream.In) {
				continue
			}
			return 0, eAgain
		}
		if d.endpoint.InEnded() {
			// A blocking read is all that the module waits for.
			d.endpoint.ShowEnd()
			continue
		}
		if !c.in.heldBack(d.endpoint, c.waiter) && d.endpoint.Await(stream.In, c.waiter) {
			continue
		}
		c.park()
	}
}

// outgoing returns the buffers of a write. Those of a Careful connection must be
// written whole.
func (c *call) outgoing(d *descriptor, ptr, count uint64) ([][]byte, errno) {
	if d.endpoint == nil || c.in.mode == stream.Posix {
		return c.iovecs(ptr, count)
	}
	return c.iovecsUpTo(maxWhole, ptr, count)
}

// writePort writes to a connection: everything for a Careful module, once for
// others.
func (c *call) writePort(d *descriptor, bufs [][]byte) (total int, e errno) {
	all := 0
	for _, b := range bufs {
		all += len(b)
	}
	if all <= maxTransfer {
		return c.writeOnce(d, bufs)
	}
	// In pieces, so that what is queued stays bounded and the module can be
	// stopped in between.
	for _, b := range bufs {
		for len(b) > 0 {
			c.in.checkAlive()
			n, e := c.writeOnce(d, [][]byte{b[:min(len(b), maxTransfer)]})
			if e != eSuccess {
				return total, e
			}
			total += n
			b = b[n:]
		}
	}
	return total, eSuccess
}

// writeOnce writes once, waiting for room if the descriptor blocks, or if the
// module cannot cope with a refusal.
func (c *call) writeOnce(d *descriptor, bufs [][]byte) (int, errno) {
	for {
		n, err := d.endpoint.Write(bufs)
		switch err {
		case nil:
			c.moved()
			return n, eSuccess
		case stream.ErrWouldBlock:
		default:
			return 0, toErrno(err)
		}
		if d.nonblock.Load() && c.in.mode == stream.Posix {
			if d.watched(stream.Out) {
				continue
			}
			return 0, eAgain
		}
		if d.endpoint.Await(stream.Out, c.waiter) {
			continue
		}
		c.park()
	}
}

// moved notes that the module read or wrote something.
func (t *thread) moved() {
	t.quiet = 0
	t.in.activity.Add(1)
}

// park waits for a wake, or unwinds the module when the instance is aborted.
func (t *thread) park() {
	t.in.flush()
	t.aboutToWait()
	t.wait(time.Time{})
}

// wait is that of the thread's waiter; it unwinds the module when the instance is
// aborted.
func (t *thread) wait(until time.Time) {
	t.waiter.Wait(until)
	t.in.checkAlive()
}

// fd_close(fd)
func fdClose(c *call, a []uint64) errno {
	d := c.in.fds.remove(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	err := d.release()
	c.shrunk()
	return toErrno(err)
}

// shrunk tells the other threads that a descriptor for which they may be waiting
// has been closed.
func (c *call) shrunk() {
	if c.in.shared != nil {
		c.in.threads.wake()
	}
}

// release ends the module's use of what is behind the descriptor. What it wrote
// to a connection still leaves: the endpoint itself is closed with the instance.
func (d *descriptor) release() error {
	switch {
	case d.owner != nil:
		d.owner.released(d.endpoint)
	case d.endpoint != nil:
		_ = d.endpoint.CloseRead()
		return d.endpoint.CloseWrite()
	case d.file != nil:
		return d.file.close()
	case d.output != nil:
		d.output.flush()
	}
	return nil
}

func (d *descriptor) fileType() uint8 {
	switch {
	case d.endpoint != nil && d.endpoint.Datagram():
		return typeDatagram
	case d.endpoint != nil:
		return typeStream
	case d.file != nil && d.file.isDir():
		return typeDirectory
	case d.file != nil:
		return typeRegular
	}
	return typeCharacter
}

// fd_fdstat_get(fd, fdstat)
func fdFdstatGet(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	stat, e := c.zero(a[1], 24)
	if e != eSuccess {
		return e
	}
	stat[0] = d.fileType()
	var flags uint16
	if d.nonblock.Load() {
		flags |= flagNonblock
	}
	binary.LittleEndian.PutUint16(stat[2:], flags)
	binary.LittleEndian.PutUint64(stat[8:], allRights)
	binary.LittleEndian.PutUint64(stat[16:], allRights)
	return eSuccess
}

// fd_fdstat_set_flags(fd, flags)
func fdFdstatSetFlags(c *call, a []uint64) errno {
	d := c.in.fds.get(uint32(a[0]))
	if d == nil {
		return eBadf
	}
	d.nonblock.Store(a[1]&flagNonblock != 0)
	if d.file != nil {
		d.file.setAppend(a[1]&flagAppend != 0)
	}
	return eSuccess
}

// fd_fdstat_set_rights(fd, base, inheriting): rights can only be dropped, and
// dropping a right that is then not used changes nothing.
func fdFdstatSetRights(c *call, a []uint64) errno {
	if c.in.fds.get(uint32(a[0])) == nil {
		return eBadf
	}
	return eSuccess
}

// fd_renumber(from, to)
func fdRenumber(c *call, a []uint64) errno {
	old, ok := c.in.fds.renumber(uint32(a[0]), uint32(a[1]))
	if !ok {
		return eBadf
	}
	var err error
	if old != nil {
		err = old.release()
		c.shrunk()
	}
	return toErrno(err)
}

// socket returns the connection behind a descriptor.
func (c *call) socket(fd uint64) (*descriptor, errno) {
	d := c.in.fds.get(uint32(fd))
	switch {
	case d == nil:
		return nil, eBadf
	case d.endpoint == nil:
		return nil, eNotsock
	}
	return d, eSuccess
}

// sock_recv(fd, iovs, iovs_len, ri_flags, ro_datalen, ro_flags)
func sockRecv(c *call, a []uint64) errno {
	d, e := c.socket(a[0])
	if e != eSuccess {
		return e
	}
	if a[3]&recvPeek != 0 {
		return eNotsup
	}
	bufs, e := c.iovecs(a[1], a[2])
	if e != eSuccess {
		return e
	}
	n, e := c.readPort(d, bufs)
	if e != eSuccess {
		return e
	}
	if e := c.put32(a[4], uint32(n)); e != eSuccess {
		return e
	}
	if flags, e := c.bytes(a[5], 2); e == eSuccess {
		clear(flags)
		return eSuccess
	}
	return eFault
}

// sock_send(fd, iovs, iovs_len, si_flags, so_datalen)
func sockSend(c *call, a []uint64) errno {
	d, e := c.socket(a[0])
	if e != eSuccess {
		return e
	}
	bufs, e := c.outgoing(d, a[1], a[2])
	if e != eSuccess {
		return e
	}
	n, e := c.writePort(d, bufs)
	if e != eSuccess {
		return e
	}
	return c.put32(a[4], uint32(n))
}

// sock_shutdown(fd, how)
func sockShutdown(c *call, a []uint64) errno {
	d, e := c.socket(a[0])
	if e != eSuccess {
		return e
	}
	if how := a[1]; how == 0 || how > shutRead|shutWrite {
		return eInval
	}
	var err error
	if a[1]&shutRead != 0 {
		err = d.endpoint.CloseRead()
	}
	if a[1]&shutWrite != 0 {
		if werr := d.endpoint.CloseWrite(); err == nil {
			err = werr
		}
	}
	c.shrunk()
	return toErrno(err)
}

// sock_accept(fd, flags, ro_fd): no descriptor of ours listens; connections come
// from water_accept.
func sockAccept(c *call, a []uint64) errno {
	if _, e := c.socket(a[0]); e != eSuccess {
		return e
	}
	return eNotsup
}
