package fingerprint

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
)

// ErrNotServerHello: the stream does not begin with a whole ServerHello in one record.
var ErrNotServerHello = errors.New("the stream does not begin with a TLS ServerHello")

// ServerHello is what a TLS server has chosen.
type ServerHello struct {
	Version uint16 // that of supported_versions, if it has it
	Cipher  uint16
}

const messageServerHello = 2

// ParseServerHello reads the first message of a server's TLS stream. A request to try again
// (RFC 8446, section 4.1.4) is one as well.
func ParseServerHello(stream []byte) (*ServerHello, error) {
	s := cryptobyte.String(stream)
	var recordType, message, compression uint8
	var recordVersion uint16
	var record, body, session, extensions cryptobyte.String
	var random []byte
	h := new(ServerHello)
	if !s.ReadUint8(&recordType) || recordType != recordHandshake || !s.ReadUint16(&recordVersion) || recordVersion>>8 != 3 ||
		!s.ReadUint16LengthPrefixed(&record) || !record.ReadUint8(&message) || message != messageServerHello ||
		!record.ReadUint24LengthPrefixed(&body) || !body.ReadUint16(&h.Version) || !body.ReadBytes(&random, 32) ||
		!body.ReadUint8LengthPrefixed(&session) || !body.ReadUint16(&h.Cipher) || !body.ReadUint8(&compression) {
		return nil, ErrNotServerHello
	}
	if body.Empty() {
		return h, nil
	}
	if !body.ReadUint16LengthPrefixed(&extensions) {
		return nil, ErrNotServerHello
	}
	for !extensions.Empty() {
		var number uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&number) || !extensions.ReadUint16LengthPrefixed(&data) {
			return nil, ErrNotServerHello
		}
		if number == extSupportedVersions && !data.ReadUint16(&h.Version) {
			return nil, ErrNotServerHello
		}
	}
	return h, nil
}
