package main

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"waterproxy/modules/internal/payload"
	"waterproxy/modules/internal/prefix"
	"waterproxy/watm"
)

// conn is a connection over the wire that it embeds, for one reader and one writer at a
// time.
type conn struct {
	watm.Conn
	in   opener
	out  *writer
	rest []byte // what has been read and not been opened: the beginning of a chunk
	read payload.Reader
}

func (c *conn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *conn) CloseWrite() error           { return c.out.CloseWrite() }

// WriteTo implements io.WriterTo.
func (c *conn) WriteTo(w io.Writer) (int64, error) { return c.read.WriteTo(w, c.batch) }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.read.Read(p, c.batch) }

// batch reads what has come and calls use with all the payload in it, if there is any. The
// end of the wire within a chunk is no end.
func (c *conn) batch(use func(payload []byte) error) error {
	err := watm.ReadBatch(c.Conn, c.rest, func(data []byte) error {
		payload, rest, failed := c.in.open(data)
		c.rest = nil
		if len(rest) > 0 {
			c.rest = append(make([]byte, 0, len(rest)), rest...)
		}
		if len(payload) > 0 {
			if err := use(payload); err != nil {
				return err
			}
		}
		return failed
	})
	if err == io.EOF && (len(c.rest) > 0 || c.in.begun()) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// opener opens what comes in: a salt, the fixed header of the 2022 edition, and chunks.
type opener struct {
	key    *masterKey
	salt   []byte
	cipher *counted // nil before the salt
	// header reads the fixed header, of so many bytes, and returns the length of the
	// first chunk. It is nil where there is none, or none any more.
	header     func(header []byte) (int, error)
	headerSize int
	chunk      int // length of the payload of the chunk that has begun; -1 if none has
}

var errChunk = errors.New("a chunk is not authentic")

// begun reports whether the stream stops in the middle of something.
func (o *opener) begun() bool { return o.cipher != nil && (o.header != nil || o.chunk >= 0) }

// open opens the chunks at the beginning of data, over which it puts their payload. It
// returns what is left, the beginning of a chunk; payload is valid also with an error.
func (o *opener) open(data []byte) (payload, rest []byte, err error) {
	rest = data
	if o.cipher == nil {
		if len(rest) < o.key.keySize {
			return nil, rest, nil
		}
		o.salt = append([]byte(nil), rest[:o.key.keySize]...)
		rest = rest[o.key.keySize:]
		if o.cipher, err = o.key.session(o.salt); err != nil {
			return nil, nil, err
		}
		o.chunk = -1
	}
	n := 0
	for {
		if o.chunk < 0 {
			if rest, err = o.begin(rest); err != nil || o.chunk < 0 {
				return data[:n], rest, err
			}
		}
		size := o.chunk + overhead
		if len(rest) < size {
			return data[:n], rest, nil
		}
		if _, err := o.cipher.open(data[n:n], rest[:size]); err != nil {
			return data[:n], nil, errChunk
		}
		n, rest, o.chunk = n+o.chunk, rest[size:], -1
	}
}

// begin reads what a chunk begins with, if all of it is there.
func (o *opener) begin(data []byte) (rest []byte, err error) {
	size := 2
	if o.header != nil {
		size = o.headerSize
	}
	if len(data) < size+overhead {
		return data, nil
	}
	var buf [64]byte
	plain, err := o.cipher.open(buf[:0], data[:size+overhead])
	if err != nil {
		return nil, errChunk
	}
	rest = data[size+overhead:]
	if o.header != nil {
		o.chunk, err = o.header(plain)
		o.header = nil
		return rest, err
	}
	if o.chunk = int(binary.BigEndian.Uint16(plain)); o.chunk > o.key.maxChunk() {
		o.chunk = -1
		return nil, errChunk
	}
	return rest, nil
}

// writeBuffer is what a burst needs.
type writeBuffer struct {
	bytes []byte
	batch batch
	parts [][]byte
}

// buffers are of the writers that are at work. They grow as needed.
var buffers = sync.Pool{New: func() any { return new(writeBuffer) }}

// writer seals what is written.
type writer struct {
	wire watm.Conn
	key  *masterKey

	mu     sync.Mutex
	cipher *counted
	salt   []byte // until it is sent
	// begin returns what the stream begins with, after the salt: messages to seal, with
	// as much of the first bytes as belongs to them, and what of these is left. It is
	// nil where the chunks begin at once, and when it has been called.
	begin func(p []byte) (messages [][]byte, rest []byte)
	timer *time.Timer // of a client's header, which the server has to know before it can send
}

func newWriter(wire watm.Conn, key *masterKey, begin prefix.Prefix) (*writer, error) {
	salt := newSalt(key, begin)
	cipher, err := key.session(salt)
	return &writer{wire: wire, key: key, cipher: cipher, salt: salt}, err
}

// beginAfter sends the beginning with the first bytes that are written, or by itself after
// a while.
func (w *writer) beginAfter(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = w.sendBeginning() // an error shows again when the connection is used, if it is not closed
	})
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return payload.InBursts(p, w.send)
}

// CloseWrite ends the stream. A client's header that nothing has followed still goes.
func (w *writer) CloseWrite() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.sendBeginning(); err != nil {
		return err
	}
	return w.wire.CloseWrite()
}

// sendBeginning sends a client's header if that has not happened.
func (w *writer) sendBeginning() error {
	if w.timer == nil || w.begin == nil {
		return nil
	}
	return w.send(nil)
}

// send seals p and sends it, after the beginning of the stream if that has not been sent.
func (w *writer) send(p []byte) error {
	buf := buffers.Get().(*writeBuffer)
	defer buffers.Put(buf)
	largest := w.key.maxChunk()
	// For each chunk its length and two tags, and for the beginning as much as it can be.
	need := len(p) + (len(p)/largest+2)*(2+2*overhead) + 2<<10
	if cap(buf.bytes) < need {
		buf.bytes = make([]byte, need)
	}
	out := append(buf.bytes[:0], w.salt...)
	w.salt = nil
	pieces := buf.parts[:0]
	if w.begin != nil {
		first, rest := w.begin(p)
		for _, message := range first {
			out, pieces = room(out, pieces, message)
		}
		p = rest
		w.begin = nil
		if w.timer != nil {
			w.timer.Stop()
		}
	}
	for len(p) > 0 {
		n := min(len(p), largest)
		out, pieces = room(out, pieces, chunkLength(n))
		out, pieces = room(out, pieces, p[:n])
		p = p[n:]
	}
	w.cipher.seal(&buf.batch, pieces...)
	buf.parts = pieces[:0]
	_, err := w.wire.Write(out)
	return err
}

// room appends a message and room for its tag to out, which is large enough, and the
// message there to pieces.
func room(out []byte, pieces [][]byte, message []byte) ([]byte, [][]byte) {
	begin := len(out)
	out = append(out, message...)
	return out[:len(out)+overhead], append(pieces, out[begin:])
}
