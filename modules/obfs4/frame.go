package main

import (
	"encoding/binary"
	"errors"
	randv2 "math/rand/v2"
	"slices"

	"waterproxy/watm/hostcrypto"
)

// A frame is a masked length, and a box of that length: a tag and a packet. A packet is a
// type, the length of the payload, the payload and padding (obfs4-spec, sections 5 and 6).
const (
	lengthSize   = 2
	packetHeader = 3
	frameHeader  = lengthSize + hostcrypto.Overhead + packetHeader

	// maxFrame fills an Ethernet packet, with 52 bytes of headers of TCP and IP.
	maxFrame   = 1500 - 52
	maxPayload = maxFrame - frameHeader
	minBox     = hostcrypto.Overhead
	maxBox     = maxFrame - lengthSize

	// keysLength is that of the keys of one direction, in bytes.
	keysLength = hostcrypto.KeySize + noncePrefix + seedLength
	// A nonce is a prefix and the number of the frame, from 1 on.
	noncePrefix = 16
)

// Types of packets. Others are ignored.
const (
	typePayload = 0
	typeSeed    = 1 // of the distributions, from the server
)

// direction is the state of one direction of a connection.
type direction struct {
	key    [hostcrypto.KeySize]byte
	nonce  [hostcrypto.NonceSize]byte
	frames uint64
	mask   *generator
}

func newDirection(keys []byte) *direction {
	d := new(direction)
	keys = keys[copy(d.key[:], keys):]
	keys = keys[copy(d.nonce[:noncePrefix], keys):]
	s := seed(keys)
	d.mask = newGenerator(&s)
	return d
}

var errFrames = errors.New("the connection has carried as many frames as it can")

// nextNonce moves on to the next frame.
func (d *direction) nextNonce() error {
	if d.frames++; d.frames == 0 {
		return errFrames
	}
	binary.BigEndian.PutUint64(d.nonce[noncePrefix:], d.frames)
	return nil
}

// nextMask returns the mask of the next frame's length.
func (d *direction) nextMask() uint16 { return binary.BigEndian.Uint16(d.mask.next()[:lengthSize]) }

// seal appends a frame to out. Payload and padding are maxPayload bytes at most together.
func (d *direction) seal(out []byte, kind byte, payload []byte, padding int) ([]byte, error) {
	if err := d.nextNonce(); err != nil {
		return out, err
	}
	packet := packetHeader + len(payload) + padding
	out = slices.Grow(out, lengthSize+hostcrypto.Overhead+packet)
	frame := out[len(out) : len(out)+lengthSize+hostcrypto.Overhead+packet]
	box := frame[lengthSize:]
	plain := box[hostcrypto.Overhead:]
	plain[0] = kind
	binary.BigEndian.PutUint16(plain[1:], uint16(len(payload)))
	clear(plain[packetHeader+copy(plain[packetHeader:], payload):])
	binary.BigEndian.PutUint16(frame, uint16(len(box))^d.nextMask())
	hostcrypto.SealBox(box[:0], plain, &d.nonce, &d.key)
	return out[:len(out)+len(frame)], nil
}

// opener is the direction of what comes in, with the length of the frame that has begun.
type opener struct {
	*direction
	box   int // 0 if no frame has begun
	wrong bool
}

// errFrame is what an opener returns for all that no peer would send.
var errFrame = errors.New("a frame is not authentic")

// begin reads the length of the next frame. One that cannot be is taken for another one,
// so that it shows only after as many bytes as of any frame.
func (o *opener) begin(data []byte) error {
	if err := o.nextNonce(); err != nil {
		return err
	}
	o.box = int(binary.BigEndian.Uint16(data) ^ o.nextMask())
	if o.box < minBox || o.box > maxBox {
		o.wrong = true
		o.box = minBox + randv2.IntN(maxBox-minBox+1)
	}
	return nil
}

// open opens the frames at the beginning of data and calls take with the packet in each.
// It returns what is left: the beginning of a frame. A packet is valid until take returns;
// it lies in scratch.
func (o *opener) open(data, scratch []byte, take func(kind byte, payload []byte)) (rest []byte, err error) {
	for {
		if o.box == 0 {
			if len(data) < lengthSize {
				return data, nil
			}
			if err := o.begin(data); err != nil {
				return nil, err
			}
			data = data[lengthSize:]
		}
		if len(data) < o.box {
			return data, nil
		}
		packet, ok := hostcrypto.OpenBox(scratch[:0], data[:o.box], &o.nonce, &o.key)
		if !ok || o.wrong || len(packet) < packetHeader {
			return nil, errFrame
		}
		payload := packet[packetHeader:]
		n := int(binary.BigEndian.Uint16(packet[1:]))
		if n > len(payload) {
			return nil, errFrame
		}
		data, o.box = data[o.box:], 0
		take(packet[0], payload[:n])
	}
}
