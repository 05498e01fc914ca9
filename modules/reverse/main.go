// Command reverse sends each write as a frame: two bytes of length, and the bytes in
// reverse order. It is there to learn from, and hides nothing.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"

	"waterproxy/watm"
)

type reverse struct{}

func (reverse) Client(_ context.Context, c watm.Conn, _ watm.Args) (net.Conn, error) {
	return wrap(c), nil
}
func (reverse) Server(_ context.Context, c watm.Conn) (net.Conn, error) { return wrap(c), nil }

type conn struct {
	watm.Conn // has CloseWrite and the rest
	in        *bufio.Reader
	rest      []byte // of the last frame
}

func wrap(c watm.Conn) *conn { return &conn{Conn: c, in: bufio.NewReader(c)} }

func (c *conn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var size uint16
		if err := binary.Read(c.in, binary.BigEndian, &size); err != nil {
			return 0, err // io.EOF between two frames is the end of the stream
		}
		c.rest = make([]byte, size)
		if _, err := io.ReadFull(c.in, c.rest); err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		slices.Reverse(c.rest)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *conn) Write(p []byte) (int, error) {
	for part := range slices.Chunk(p, 1<<16-1) {
		frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(part))), part...)
		slices.Reverse(frame[2:])
		if _, err := c.Conn.Write(frame); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func main() { watm.Run(reverse{}) }
