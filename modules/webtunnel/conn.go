package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"waterproxy/modules/internal/payload"
	"waterproxy/watm"
)

// tlsConn is a TLS connection after the handshake. It is a [watm.Conn] for one reader and one
// writer. Of the library's connection nothing is left.
type tlsConn struct {
	watm.Conn
	in   opener
	out  writer
	rest []byte // what has been read and not been opened: the beginning of a record
	read payload.Reader
	over error // why nothing more is opened: the peer's end, or what is wrong with a record
}

func newConn(wire watm.Conn, out, in *direction) *tlsConn {
	c := &tlsConn{Conn: wire, in: opener{direction: in}, out: writer{wire: wire, direction: out}}
	c.in.update = func() { c.out.updateDue.Store(true) }
	return c
}

// WriteTo implements io.WriterTo.
func (c *tlsConn) WriteTo(w io.Writer) (int64, error) { return c.read.WriteTo(w, c.batch) }

// Read implements net.Conn.
func (c *tlsConn) Read(p []byte) (int, error) { return c.read.Read(p, c.batch) }

// batch reads what has come and calls use with all the payload in it, if there is any. The
// end of the wire without a close_notify is no end: somebody may have cut it off.
func (c *tlsConn) batch(use func(payload []byte) error) error {
	if c.over != nil {
		return c.over
	}
	err := watm.ReadBatch(c.Conn, c.rest, func(data []byte) error {
		payload, rest, over := c.in.open(data)
		c.rest, c.over = nil, over
		if len(rest) > 0 {
			c.rest = append(make([]byte, 0, len(rest)), rest...)
		}
		if len(payload) > 0 {
			if err := use(payload); err != nil {
				return err
			}
		}
		return over
	})
	var wrong alert
	switch {
	case errors.As(err, &wrong):
		c.out.alert(wrong)
	case err == io.EOF && !c.in.ended:
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write implements net.Conn.
func (c *tlsConn) Write(p []byte) (int, error) { return c.out.Write(p) }

// CloseWrite ends one direction with a close_notify. The connection below stays whole.
func (c *tlsConn) CloseWrite() error { return c.out.CloseWrite() }

// closeTimeout bounds how long a close_notify may take while the connection closes.
const closeTimeout = 5 * time.Second

// Close implements net.Conn.
func (c *tlsConn) Close() error {
	err := c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	if err == nil {
		c.out.alert(alertCloseNotify)
	}
	return errors.Join(err, c.Conn.Close())
}

// SetDeadline and its like would leave a record that is half written.
func (c *tlsConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *tlsConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

var _ net.Conn = (*tlsConn)(nil)

// Buffers for records: of what one buffer of the SDK's becomes, and of little.
const (
	records    = payload.Burst/maxContent + 2 // a key update, and what begins with it
	largeWrite = payload.Burst + records*maxOverhead + 1<<10
	smallWrite = 4 << 10
)

var (
	largeWrites = sync.Pool{New: func() any { return new([largeWrite]byte) }}
	smallWrites = sync.Pool{New: func() any { return new([smallWrite]byte) }}
)

// mostRecords is how many records one key of TLS 1.3 seals. AES-GCM is safe for twice as
// many (RFC 8446, section 5.5).
const mostRecords = 1 << 23

// writer seals what is written.
type writer struct {
	wire watm.Conn
	// updateDue is set when the peer has asked for new keys, which it must see before
	// further data (RFC 8446, section 4.6.3). The next write does it: an answer at once
	// would have to wait for a write that waits for the peer.
	updateDue atomic.Bool

	mu sync.Mutex
	*direction
	ended bool // a close_notify or an error has gone out
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, net.ErrClosed
	}
	return payload.InBursts(p, w.writeBurst)
}

func (w *writer) writeBurst(p []byte) error {
	var buf []byte
	if len(p) <= smallWrite-4*maxOverhead {
		small := smallWrites.Get().(*[smallWrite]byte)
		defer smallWrites.Put(small)
		buf = small[:0]
	} else {
		large := largeWrites.Get().(*[largeWrite]byte)
		defer largeWrites.Put(large)
		buf = large[:0]
	}
	var err error
	if w.secret != nil && (w.number >= mostRecords || w.updateDue.Load()) {
		w.updateDue.Store(false)
		if buf, err = w.seal(buf, typeHandshake, []byte{messageKeyUpdate, 0, 0, 1, 0}); err != nil {
			return err
		}
		if err = w.update(); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		n := min(len(p), maxContent)
		if buf, err = w.seal(buf, typeData, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	_, err = w.wire.Write(buf)
	return err
}

// CloseWrite ends the direction.
func (w *writer) CloseWrite() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end(alertCloseNotify)
}

// alert ends the direction with what is wrong, if no write is under way.
func (w *writer) alert(a alert) {
	if w.mu.TryLock() {
		defer w.mu.Unlock()
		_ = w.end(a) // the connection ends in any case
	}
}

func (w *writer) end(a alert) error {
	if w.ended {
		return nil
	}
	w.ended = true
	level := byte(2)
	if a == alertCloseNotify {
		level = 1
	}
	record, err := w.seal(make([]byte, 0, 2+maxOverhead), typeAlert, []byte{level, byte(a)})
	if err != nil {
		return err
	}
	_, err = w.wire.Write(record)
	return err
}
