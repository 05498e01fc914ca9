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
	"waterproxy/watm/hostcrypto"
)

// Ways to hide when bytes were written (obfs4-spec, section 6).
const (
	iatNone     = 0
	iatEnabled  = 1 // frames go out one by one, at random intervals
	iatParanoid = 2 // pieces of random lengths do
)

// maxInterval is the longest of those intervals, in steps of intervalStep.
const (
	maxInterval  = 100
	intervalStep = 100 * time.Microsecond
)

// shape has the distributions of a connection.
type shape struct {
	seed      *seed         // that they are drawn from
	lengths   *distribution // of bursts
	intervals *distribution // nil without iat-mode
}

func newShape(s *seed, iatMode int) *shape {
	p := &shape{seed: s, lengths: newDistribution(s, maxFrame)}
	if iatMode != iatNone {
		sum := hostcrypto.SHA256(s[:])
		own := seed(sum[:seedLength])
		p.intervals = newDistribution(&own, maxInterval)
	}
	return p
}

// keptShapes are those that were used last: all connections to a bridge have the same
// seed, and a shape takes longer than a handshake.
type keptShapes struct {
	mu   sync.Mutex
	kept []*shape // the newest last
}

// mostShapes is how many are kept. A client uses two or three bridges.
const mostShapes = 8

var clientShapes [iatParanoid + 1]keptShapes // by iat-mode

// get returns the shape of a seed.
func (k *keptShapes) get(s *seed, iatMode int) *shape {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.kept {
		if *p.seed == *s {
			return p
		}
	}
	if len(k.kept) == mostShapes {
		k.kept = append(k.kept[:0], k.kept[1:]...)
	}
	p := newShape(s, iatMode)
	k.kept = append(k.kept, p)
	return p
}

// conn is a connection after the handshake. It is a [watm.Conn] for one reader and one
// writer.
type conn struct {
	watm.Conn
	iatMode int
	out     *direction
	in      opener

	// shape is the server's: a client gets its seed in the first frame. Until then it is
	// nil, and one of the client's own is made if it is needed.
	shape  atomic.Pointer[shape]
	client bool

	rest []byte // what has been read and not been opened: the beginning of a frame
	read payload.Reader
}

// scratches have room for a packet.
var scratches = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// WriteTo implements io.WriterTo.
func (c *conn) WriteTo(w io.Writer) (int64, error) { return c.read.WriteTo(w, c.batch) }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.read.Read(p, c.batch) }

// batch reads what has come and calls use with all the payload in it, if there is any.
func (c *conn) batch(use func(payload []byte) error) error {
	return watm.ReadBatch(c.Conn, c.rest, func(data []byte) error { return c.open(data, use) })
}

// open opens the frames in data, over which it puts the payload.
func (c *conn) open(data []byte, use func(payload []byte) error) error {
	scratch := scratches.Get().(*[maxFrame]byte)
	defer scratches.Put(scratch)
	n := 0 // of payload
	rest, failed := c.in.open(data, scratch[:], func(kind byte, payload []byte) {
		switch {
		case kind == typePayload:
			n += copy(data[n:], payload)
		case kind == typeSeed && len(payload) == seedLength && c.client:
			s := seed(payload)
			c.shape.Store(clientShapes[c.iatMode].get(&s, c.iatMode))
		}
	})
	c.keep(rest)
	if n > 0 {
		if err := use(data[:n]); err != nil {
			return err
		}
	}
	return failed
}

// keep keeps the beginning of a frame.
func (c *conn) keep(rest []byte) {
	if len(rest) == 0 {
		c.rest = nil
		return
	}
	c.rest = append(make([]byte, 0, len(rest)), rest...)
}

// shaped returns the distributions.
func (c *conn) shaped() *shape {
	if p := c.shape.Load(); p != nil {
		return p
	}
	var own seed
	random(own[:])
	c.shape.CompareAndSwap(nil, newShape(&own, c.iatMode))
	return c.shape.Load()
}

// Buffers for frames: of what one buffer of the SDK's becomes, and of little.
const (
	largeWrite = 280 << 10
	smallWrite = 4 << 10
)

var (
	largeWrites = sync.Pool{New: func() any { return new([largeWrite]byte) }}
	smallWrites = sync.Pool{New: func() any { return new([smallWrite]byte) }}
)

// Write implements net.Conn. All frames are in the connection below when it returns.
func (c *conn) Write(p []byte) (int, error) { return payload.InBursts(p, c.writeBurst) }

func (c *conn) writeBurst(p []byte) error {
	var buf []byte
	if len(p) <= smallWrite-2*maxFrame { // there is padding to come
		small := smallWrites.Get().(*[smallWrite]byte)
		defer smallWrites.Put(small)
		buf = small[:0]
	} else {
		large := largeWrites.Get().(*[largeWrite]byte)
		defer largeWrites.Put(large)
		buf = large[:0]
	}
	var err error
	for len(p) > 0 && err == nil {
		n := min(len(p), maxPayload)
		buf, err = c.out.seal(buf, typePayload, p[:n], 0)
		p = p[n:]
	}
	if err != nil {
		return err
	}
	if c.iatMode == iatParanoid {
		return c.writeParanoid(buf)
	}
	if buf, err = c.pad(buf, c.shaped().lengths.sample()); err != nil {
		return err
	}
	if c.iatMode == iatNone {
		_, err = c.Conn.Write(buf)
		return err
	}
	for len(buf) > 0 && err == nil {
		n := min(len(buf), maxFrame)
		err = c.writeAndWait(buf[:n])
		buf = buf[n:]
	}
	return err
}

// writeParanoid writes pieces of random lengths.
func (c *conn) writeParanoid(buf []byte) (err error) {
	for len(buf) > 0 && err == nil {
		target := c.shaped().lengths.sample()
		if len(buf) < target {
			if buf, err = c.pad(buf, target); err != nil {
				return err
			}
			if len(buf) != target { // the padding took two frames, of which the next piece is
				continue
			}
		}
		if target == 0 {
			continue
		}
		err = c.writeAndWait(buf[:target])
		buf = buf[target:]
	}
	return err
}

// writeAndWait writes, and waits for a random time before what follows.
func (c *conn) writeAndWait(p []byte) error {
	_, err := c.Conn.Write(p)
	if err == nil {
		time.Sleep(time.Duration(c.shaped().intervals.sample()) * intervalStep)
	}
	return err
}

// pad appends frames without payload, so that the last packet on the wire is as long as
// the target.
func (c *conn) pad(buf []byte, target int) ([]byte, error) {
	padding := target - len(buf)%maxFrame
	if padding < 0 {
		padding += maxFrame
	}
	if padding == 0 {
		return buf, nil
	}
	if padding > frameHeader {
		return c.out.seal(buf, typePayload, nil, padding-frameHeader)
	}
	// Less than a frame needs: a full one makes up for it.
	buf, err := c.out.seal(buf, typePayload, nil, maxPayload)
	if err != nil {
		return buf, err
	}
	return c.out.seal(buf, typePayload, nil, padding)
}

// SetDeadline and its like would leave a frame that is half written.
func (c *conn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *conn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

var _ net.Conn = (*conn)(nil)
