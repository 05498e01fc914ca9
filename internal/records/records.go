// Package records is the language of the control descriptor, over which the host
// and an instance that serves many connections talk (docs/abi.md, "Many
// connections"). Host and SDK share it.
package records

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Kind is what a record is about.
type Kind uint16

// Records from the host to the module.
const (
	// Open: the caller of connection ID is Value. If the module has sent Connect,
	// Request is the network connection to the target. The payload is that of
	// [OpenPayload].
	Open Kind = 1 + iota
	// Incoming: connection ID came from the network, as Value.
	Incoming
	// Dialed answers the Dial of that Request: Value is the new descriptor, or
	// the negative of an error number.
	Dialed
	// Caller answers the Accept of that Request: Value is the caller's
	// descriptor, or the negative of an error number. ID is its connection.
	Caller
	// Readable and Writable: an operation on the descriptor Value that was
	// refused with EAGAIN may work now.
	Readable
	Writable
	// Close: the user of connection ID has closed it. What it wrote is still to
	// be delivered; then the module closes what belongs to the connection.
	Close
	// Abort: connection ID is over. Its descriptors are of no more use, and are
	// for the module to close.
	Abort
	// End: the instance is not needed any more.
	End
)

// Records from the module to the host.
const (
	// Ready: the set-up of the outgoing connection ID has succeeded.
	Ready Kind = 16 + iota
	// Fail: connection ID cannot be set up, or has failed. Value is an error
	// number, the payload is the reason, for people.
	Fail
	// Dial asks for a network connection for ID: to its target, or to the payload
	// ([Target]), if the operator permits that.
	Dial
	// Accept: the set-up of the incoming connection ID has succeeded, its caller
	// is wanted.
	Accept
	// Connect: from now on the host connects to the target of each Open that has
	// one before it tells the module, and fails the connection if it can't.
	Connect
	// KeepOpen: an incoming connection whose set-up fails, but not by a Fail or because
	// the module closed it, is read from by the host and closed only Value
	// milliseconds after it came. It applies to the transport, also when the
	// instance has ended.
	KeepOpen
)

// Multiplexed is a flag of Dial and Accept: the network connection does not belong to
// one caller. That of a Dial belongs to the instance, and each Accept brings a
// connection of its own.
const Multiplexed uint16 = 1

// MaxRecord bounds a record, so that a buffer of this size can hold any.
const MaxRecord = 4096

const headerSize = 20

// Record is one message.
type Record struct {
	Kind    Kind
	Flags   uint16
	ID      uint32
	Request uint32
	Value   int32
	Payload []byte
}

// ErrMalformed is the error for bytes that are no record.
var ErrMalformed = errors.New("malformed control record")

// Append appends the record's encoding. Its payload must leave it within
// MaxRecord.
func (r Record) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(r.Kind))
	b = binary.LittleEndian.AppendUint16(b, r.Flags)
	b = binary.LittleEndian.AppendUint32(b, r.ID)
	b = binary.LittleEndian.AppendUint32(b, r.Request)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Value))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Payload)))
	return append(b, r.Payload...)
}

// Size returns the size of the record that b begins with, 0 if b is too short to
// tell.
func Size(b []byte) int {
	if len(b) < headerSize {
		return 0
	}
	return headerSize + int(min(binary.LittleEndian.Uint32(b[16:]), 1<<30))
}

// Parse returns the record that b begins with, and what follows it. The payload
// is a part of b.
func Parse(b []byte) (r Record, rest []byte, err error) {
	n := Size(b)
	if n == 0 || n > MaxRecord || n > len(b) {
		return r, nil, ErrMalformed
	}
	r.Kind = Kind(binary.LittleEndian.Uint16(b))
	r.Flags = binary.LittleEndian.Uint16(b[2:])
	r.ID = binary.LittleEndian.Uint32(b[4:])
	r.Request = binary.LittleEndian.Uint32(b[8:])
	r.Value = int32(binary.LittleEndian.Uint32(b[12:]))
	r.Payload = b[headerSize:n]
	return r, b[n:], nil
}

// Target is how an address to dial is written: the network ("tcp"), a space, and
// HOST:PORT. Empty if there is none.
func Target(network, address string) string {
	if address == "" {
		return ""
	}
	return network + " " + address
}

// SplitTarget takes a Target apart.
func SplitTarget(s string) (network, address string) {
	network, address, _ = strings.Cut(s, " ")
	return network, address
}

// OpenPayload is the payload of Open: the target that a Dial reaches, a zero byte,
// and the connection's arguments ([waterproxy/internal/ptargs.Format]).
func OpenPayload(target, args string) []byte {
	return []byte(target + "\x00" + args)
}

// SplitOpenPayload takes an OpenPayload apart.
func SplitOpenPayload(b []byte) (target, args string) {
	target, args, _ = strings.Cut(string(b), "\x00")
	return target, args
}

// MaxOpen bounds the target and arguments of a connection together.
const MaxOpen = MaxRecord - headerSize - 1
