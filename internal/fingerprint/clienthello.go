// Package fingerprint reads the ClientHello at the beginning of a stream of bytes, and
// computes the fingerprints by which an observer recognizes the program that sent it.
package fingerprint

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

var (
	// ErrNotClientHello: the stream begins with something else.
	ErrNotClientHello = errors.New("the stream does not begin with a TLS ClientHello")
	// ErrIncomplete: the stream is the beginning of a ClientHello, and more has to come.
	ErrIncomplete = errors.New("the ClientHello is not complete")
)

// Numbers of TLS (RFC 8446, RFC 7301, RFC 8422 and IANA's registry of extensions).
const (
	recordHandshake      = 22
	messageClientHello   = 1
	maxRecord            = 1<<14 + 256
	maxMessage           = 1 << 16 // the largest in use, with post-quantum keys, have 2 KB
	extServerName        = 0
	extGroups            = 10
	extPointFormats      = 11
	extSignatures        = 13
	extALPN              = 16
	extPadding           = 21
	extSupportedVersions = 43
	extKeyShare          = 51
)

// ClientHello is what a TLS client sends first. Lists are in the order of the wire, GREASE
// values (RFC 8701) included.
type ClientHello struct {
	RecordVersion uint16 // of the first record
	Version       uint16 // legacy_version; TLS 1.3 is in Versions only
	Random        []byte
	SessionID     []byte
	Ciphers       []uint16
	Compressions  []byte
	Extensions    []Extension

	// These are read from extensions; without the extension they are empty.
	ServerName   string // SNI
	ALPN         []string
	Versions     []uint16 // supported_versions
	Groups       []uint16 // supported_groups, once called curves
	PointFormats []byte
	Signatures   []uint16 // signature_algorithms
	KeyShares    []uint16 // the groups for which there is a key

	// Records is the number of TLS records over which the message is spread; Length the
	// number of bytes of the stream that these have.
	Records, Length int
}

// Extension is one extension as it was sent.
type Extension struct {
	Type uint16
	Data []byte
}

// Has reports whether the extension is there, empty or not.
func (h *ClientHello) Has(extension uint16) bool {
	return slices.ContainsFunc(h.Extensions, func(e Extension) bool { return e.Type == extension })
}

// ParseClientHello reads the first message of a TLS stream, which may be spread over several
// records. What follows it is not looked at. The error wraps ErrNotClientHello or
// ErrIncomplete. The result shares no memory with stream.
func ParseClientHello(stream []byte) (*ClientHello, error) {
	message, h, err := firstMessage(slices.Clone(stream))
	if err != nil {
		return nil, err
	}
	if err := h.parse(message); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotClientHello, err)
	}
	return h, nil
}

// firstMessage joins the records that hold the first handshake message.
func firstMessage(stream []byte) (message []byte, h *ClientHello, err error) {
	h = new(ClientHello)
	for rest := stream; ; {
		// What is there is checked before more is asked for: random bytes are no beginning.
		if len(rest) > 0 && rest[0] != recordHandshake || len(rest) > 1 && rest[1] != 3 {
			return nil, nil, ErrNotClientHello
		}
		if len(rest) < 5 {
			return nil, nil, ErrIncomplete
		}
		length := int(rest[3])<<8 | int(rest[4])
		if length == 0 || length > maxRecord {
			return nil, nil, fmt.Errorf("%w: a record of %d bytes", ErrNotClientHello, length)
		}
		if h.Records == 0 {
			h.RecordVersion = uint16(rest[1])<<8 | uint16(rest[2])
		}
		body := rest[5:min(len(rest), 5+length)]
		message = append(message, body...)
		if message = message[:len(message):len(message)]; len(message) > 0 && message[0] != messageClientHello {
			return nil, nil, fmt.Errorf("%w: handshake message %d", ErrNotClientHello, message[0])
		}
		if len(message) >= 4 {
			want := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if want > maxMessage {
				return nil, nil, fmt.Errorf("%w: a message of %d bytes", ErrNotClientHello, want)
			}
			if len(message) >= 4+want {
				h.Records++
				h.Length = min(len(stream), len(stream)-len(rest)+5+length)
				return message[4 : 4+want], h, nil
			}
		}
		if len(body) < length {
			return nil, nil, ErrIncomplete
		}
		h.Records++
		rest = rest[5+length:]
	}
}

var errLengths = errors.New("its lengths contradict each other")

func (h *ClientHello) parse(message []byte) error {
	s := cryptobyte.String(message)
	var session, ciphers, compressions, extensions cryptobyte.String
	if !s.ReadUint16(&h.Version) || !s.ReadBytes(&h.Random, 32) ||
		!s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&ciphers) ||
		!s.ReadUint8LengthPrefixed(&compressions) {
		return errLengths
	}
	h.SessionID, h.Compressions = session, compressions
	var ok bool
	if h.Ciphers, ok = numbers(ciphers); !ok {
		return errLengths
	}
	if s.Empty() { // before TLS 1.2 there may be none
		return nil
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return errLengths
	}
	for !extensions.Empty() {
		var e Extension
		var data cryptobyte.String
		if !extensions.ReadUint16(&e.Type) || !extensions.ReadUint16LengthPrefixed(&data) {
			return errLengths
		}
		e.Data = data
		h.Extensions = append(h.Extensions, e)
		if !h.parseExtension(e.Type, data) {
			return fmt.Errorf("extension %d: %w", e.Type, errLengths)
		}
	}
	return nil
}

func (h *ClientHello) parseExtension(number uint16, data cryptobyte.String) (ok bool) {
	var list cryptobyte.String
	switch number {
	case extServerName:
		return h.parseServerName(data)
	case extGroups:
		return oneList(data, &h.Groups)
	case extSignatures:
		return oneList(data, &h.Signatures)
	case extPointFormats:
		ok = data.ReadUint8LengthPrefixed(&list) && data.Empty()
		h.PointFormats = list
		return ok
	case extALPN:
		if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
			return false
		}
		for !list.Empty() {
			var name cryptobyte.String
			if !list.ReadUint8LengthPrefixed(&name) {
				return false
			}
			h.ALPN = append(h.ALPN, string(name))
		}
	case extSupportedVersions:
		if !data.ReadUint8LengthPrefixed(&list) || !data.Empty() {
			return false
		}
		h.Versions, ok = numbers(list)
		return ok
	case extKeyShare:
		if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
			return false
		}
		for !list.Empty() {
			var group uint16
			var key cryptobyte.String
			if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&key) {
				return false
			}
			h.KeyShares = append(h.KeyShares, group)
		}
	}
	return true
}

// parseServerName takes the first name of type host_name.
func (h *ClientHello) parseServerName(data cryptobyte.String) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return false
	}
	for !list.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		if kind == 0 && h.ServerName == "" {
			h.ServerName = string(name)
		}
	}
	return true
}

// oneList reads data that is nothing but a list of numbers with its length before it.
func oneList(data cryptobyte.String, into *[]uint16) (ok bool) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return false
	}
	*into, ok = numbers(list)
	return ok
}

func numbers(list cryptobyte.String) (all []uint16, ok bool) {
	for !list.Empty() {
		var n uint16
		if !list.ReadUint16(&n) {
			return nil, false
		}
		all = append(all, n)
	}
	return all, true
}
