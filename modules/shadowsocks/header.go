package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/shadowsocks/go-shadowsocks2/socks"
)

// What a connection of the 2022 edition begins with (SIP022, section 3.1): a header of
// fixed length with its kind, the time and the length of what follows, and that, which is
// the first chunk. A server's has the client's salt in it as well.
const (
	kindRequest  = 0
	kindResponse = 1

	requestHeader = 1 + 8 + 2
	// clockSkew is how far the clocks of both sides may be apart.
	clockSkew = 30 * time.Second
	// maxPadding is the most padding of a request (SIP022, section 3.1.3).
	maxPadding = 900
)

func (k *masterKey) responseHeader() int { return requestHeader + k.keySize }

// fixedHeader makes one: salt is of the request that it answers.
func fixedHeader(kind byte, now time.Time, salt []byte, length int) []byte {
	out := append(make([]byte, 0, requestHeader+len(salt)), kind)
	out = binary.BigEndian.AppendUint64(out, uint64(now.Unix()))
	out = append(out, salt...)
	return binary.BigEndian.AppendUint16(out, uint16(length))
}

var (
	errKind  = errors.New("the peer's first header is of another kind")
	errClock = errors.New("the clocks of both sides are more than 30 s apart, or somebody replays a recorded connection")
	errSalt  = errors.New("the server answers another connection")
)

// readFixedHeader reads one, and returns the length of what follows.
func readFixedHeader(header []byte, kind byte, now time.Time, salt []byte) (length int, err error) {
	const skew = int64(clockSkew / time.Second)
	sent := int64(binary.BigEndian.Uint64(header[1:]))
	switch {
	case header[0] != kind:
		return 0, errKind
	case sent < now.Unix()-skew || sent > now.Unix()+skew:
		return 0, errClock
	case string(header[9:9+len(salt)]) != string(salt):
		return 0, errSalt
	}
	return int(binary.BigEndian.Uint16(header[9+len(salt):])), nil
}

// beginRequest returns how a client's stream begins: see [writer].
func (k *masterKey) beginRequest(address []byte) func(p []byte) ([][]byte, []byte) {
	return func(p []byte) ([][]byte, []byte) {
		header := address
		if k.edition2022 {
			header = variableHeader(address, len(p))
		}
		n := min(len(p), k.maxChunk()-len(header))
		chunk := slices.Concat(header, p[:n])
		if k.edition2022 {
			return [][]byte{fixedHeader(kindRequest, time.Now(), nil, len(chunk)), chunk}, p[n:]
		}
		return [][]byte{chunkLength(len(chunk)), chunk}, p[n:]
	}
}

// beginResponse returns how a server's stream begins in the 2022 edition.
func (k *masterKey) beginResponse(requestSalt []byte) func(p []byte) ([][]byte, []byte) {
	return func(p []byte) ([][]byte, []byte) {
		n := min(len(p), k.maxChunk())
		return [][]byte{fixedHeader(kindResponse, time.Now(), requestSalt, n), p[:n]}, p[n:]
	}
}

func chunkLength(n int) []byte { return []byte{byte(n >> 8), byte(n)} }

// variableHeader is what follows a client's: the address, and padding if there is no
// payload, so that there is always something.
func variableHeader(address []byte, payload int) []byte {
	padding := 0
	if payload == 0 {
		padding = 1 + mathrand.N(maxPadding)
	}
	out := slices.Concat(address, make([]byte, 2+padding))
	binary.BigEndian.PutUint16(out[len(address):], uint16(padding))
	rand.Read(out[len(address)+2:])
	return out
}

// requestLength returns how many of a client's first bytes are not payload: the address,
// and the padding of the 2022 edition. io.ErrUnexpectedEOF is about what is not all there.
func (k *masterKey) requestLength(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := 0
	switch b[0] {
	case socks.AtypIPv4:
		n = 1 + 4 + 2
	case socks.AtypIPv6:
		n = 1 + 16 + 2
	case socks.AtypDomainName:
		if len(b) < 2 {
			return 0, io.ErrUnexpectedEOF
		}
		n = 1 + 1 + int(b[1]) + 2
	default:
		return 0, errHandshake
	}
	if k.edition2022 {
		if len(b) < n+2 {
			return 0, io.ErrUnexpectedEOF
		}
		padding := int(binary.BigEndian.Uint16(b[n:]))
		if n += 2 + padding; padding > maxPadding || padding == 0 && n == len(b) {
			return 0, errHandshake
		}
	}
	if len(b) < n {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}
