package main

import (
	"crypto/cipher"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	library "github.com/Jigsaw-Code/outline-sdk/transport/shadowsocks"

	"waterproxy/watm"
)

// conn is a connection over the wire that it embeds.
type conn struct {
	watm.Conn
	in  library.Reader
	out *writer
}

func (c *conn) Read(p []byte) (int, error)         { return c.in.Read(p) }
func (c *conn) WriteTo(w io.Writer) (int64, error) { return c.in.WriteTo(w) }
func (c *conn) Write(p []byte) (int, error)        { return c.out.Write(p) }
func (c *conn) CloseWrite() error                  { return c.out.CloseWrite() }

// maxChunk is the most payload that a chunk can have (SIP004). A few chunks are
// encrypted and written together, since each call of the host costs something.
const (
	maxChunk     = 1<<14 - 1
	chunksAtOnce = 4
)

// buffers hold what is written together. They grow as needed.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// writer encrypts what is written. It takes the place of the library's, which keeps
// a buffer of 16 KiB as long as its connection lasts.
type writer struct {
	wire watm.Conn
	aead cipher.AEAD

	mu     sync.Mutex
	nonce  []byte
	salt   []byte // until it is sent
	header []byte // until it is sent
	timer  *time.Timer
}

func newWriter(wire watm.Conn, key *library.EncryptionKey, salt []byte) (*writer, error) {
	aead, err := key.NewAEAD(salt)
	if err != nil {
		return nil, fmt.Errorf("make the cipher of a connection: %w", err)
	}
	return &writer{wire: wire, aead: aead, nonce: make([]byte, aead.NonceSize()), salt: salt}, nil
}

// delay sends header with the first bytes that are written, or by itself after d: a
// server has to know it before it can send anything.
func (w *writer) delay(header []byte, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.header = header
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = w.sendHeader() // an error shows again when the connection is used, if it is not closed
	})
}

func (w *writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := p
	if w.header != nil {
		all = append(w.header, p...)
		w.header = nil
		w.timer.Stop()
	}
	if err := w.send(all); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the stream. A header that nothing has followed still goes.
func (w *writer) CloseWrite() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.sendHeader(); err != nil {
		return err
	}
	return w.wire.CloseWrite()
}

// sendHeader sends the header if that has not happened.
func (w *writer) sendHeader() error {
	header := w.header
	w.header = nil
	if header == nil {
		return nil
	}
	return w.send(header)
}

// send encrypts p and sends it, after the salt if that has not been sent.
func (w *writer) send(p []byte) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for part := range slices.Chunk(p, chunksAtOnce*maxChunk) {
		out := append((*buf)[:0], w.salt...)
		w.salt = nil
		for chunk := range slices.Chunk(part, maxChunk) {
			out = w.seal(out, []byte{byte(len(chunk) >> 8), byte(len(chunk))})
			out = w.seal(out, chunk)
		}
		*buf = out
		if _, err := w.wire.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// seal appends the encrypted p to out.
func (w *writer) seal(out, p []byte) []byte {
	out = w.aead.Seal(out, w.nonce, p, nil)
	for i := range w.nonce { // it counts, the least significant byte first
		if w.nonce[i]++; w.nonce[i] != 0 {
			break
		}
	}
	return out
}
