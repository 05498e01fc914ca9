package main

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	tls "github.com/refraction-networking/utls"

	"waterproxy/watm/hostcrypto"
)

// The record layer of TLS 1.2 and 1.3 after the handshake, for the ciphers that the host
// has (RFC 5246, 5288, 7905 and 8446).

// Lengths in bytes.
const (
	headerSize = 5
	ivSize     = 12
	maxContent = 1 << 14
	// maxOverhead is the most by which a record that is sent is longer than its content:
	// header, explicit nonce or type, tag.
	maxOverhead = headerSize + explicitSize + hostcrypto.Overhead
	// explicitSize is the part of an AES-GCM nonce that TLS 1.2 sends.
	explicitSize = 8
)

// Types of records.
const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

// Types of handshake messages that may come late (RFC 8446, section 4.6).
const (
	messageHelloRequest = 0 // TLS 1.2
	messageTicket       = 4
	messageKeyUpdate    = 24
)

// alert is a description of RFC 8446, section 6. As an error it is our own verdict of what
// the peer has sent.
type alert uint8

const (
	alertCloseNotify       alert = 0
	alertUnexpectedMessage alert = 10
	alertBadRecord         alert = 20
	alertRecordOverflow    alert = 22
	alertDecode            alert = 50
	alertUserCanceled      alert = 90
)

func (a alert) Error() string {
	switch a {
	case alertBadRecord:
		return "a TLS record is not authentic"
	case alertRecordOverflow:
		return "a TLS record is too long"
	}
	return "the peer does not speak TLS properly"
}

// peerAlert is an alert from the peer.
type peerAlert uint8

func (a peerAlert) Error() string {
	return fmt.Sprintf("the peer ended TLS with the alert %d", uint8(a))
}

// suite is a cipher of TLS that the host has.
type suite struct {
	aead    hostcrypto.Algorithm
	keySize int
	hash    func() hash.Hash
}

var (
	aes128   = suite{hostcrypto.AESGCM, 16, sha256.New}
	aes256   = suite{hostcrypto.AESGCM, 32, sha512.New384}
	chacha20 = suite{hostcrypto.ChaCha20Poly1305, 32, sha256.New}
)

// suites are the numbers of cipher suites; others stay with the library.
var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256:                        &aes128,
	tls.TLS_AES_256_GCM_SHA384:                        &aes256,
	tls.TLS_CHACHA20_POLY1305_SHA256:                  &chacha20,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       &aes128,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         &aes128,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256:               &aes128,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       &aes256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         &aes256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384:               &aes256,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: &chacha20,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   &chacha20,
}

// direction is the cipher of one direction of a connection.
type direction struct {
	*suite
	secret []byte // of TLS 1.3, from which the next keys are made; nil in TLS 1.2
	cipher *hostcrypto.AEAD
	iv     [ivSize]byte
	number uint64 // of the next record
}

// newDirection13 returns a direction of TLS 1.3 with the keys of a traffic secret.
func newDirection13(s *suite, secret []byte) (*direction, error) {
	d := &direction{suite: s, secret: secret}
	return d, d.setKeys()
}

func (d *direction) setKeys() (err error) {
	key, err := d.expand("key", d.keySize)
	if err != nil {
		return err
	}
	iv, err := d.expand("iv", ivSize)
	if err != nil {
		return err
	}
	copy(d.iv[:], iv)
	d.number = 0
	d.cipher, err = hostcrypto.NewAEAD(d.aead, key)
	return err
}

// update moves on to the next keys (RFC 8446, section 7.2).
func (d *direction) update() (err error) {
	if d.secret, err = d.expand("traffic upd", len(d.secret)); err != nil {
		return err
	}
	return d.setKeys()
}

// expand is HKDF-Expand-Label without a context (RFC 8446, section 7.1).
func (d *direction) expand(label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len(label)))
	info = append(append(info, label...), 0)
	return hkdf.Expand(d.hash, d.secret, string(info), n)
}

// newDirections12 returns both directions of TLS 1.2 with the keys of a master secret, after
// the one record that each side has sent with them (RFC 5246, section 6.3).
func newDirections12(s *suite, master, clientRandom, serverRandom []byte) (out, in *direction, err error) {
	salt := ivSize
	if s.aead == hostcrypto.AESGCM {
		salt -= explicitSize
	}
	block := prf(s.hash, master, "key expansion", slices.Concat(serverRandom, clientRandom), 2*(s.keySize+salt))
	take := func(n int) (part []byte) {
		part, block = block[:n], block[n:]
		return part
	}
	out, in = &direction{suite: s, number: 1}, &direction{suite: s, number: 1}
	for _, d := range []*direction{out, in} {
		if d.cipher, err = hostcrypto.NewAEAD(s.aead, take(s.keySize)); err != nil {
			return nil, nil, err
		}
	}
	copy(out.iv[:], take(salt))
	copy(in.iv[:], take(salt))
	return out, in, nil
}

// prf is the function of RFC 5246, section 5.
func prf(h func() hash.Hash, secret []byte, label string, seed []byte, n int) (out []byte) {
	sum := func(parts ...[]byte) []byte {
		m := hmac.New(h, secret)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

var errNumbers = errors.New("the connection has carried as many TLS records as it can")

// nextNonce writes the nonce of the next record. explicit is what the record itself has of
// it, nil if nothing.
func (d *direction) nextNonce(nonce *[ivSize]byte, explicit []byte) error {
	if d.number == 1<<64-1 {
		return errNumbers
	}
	*nonce = d.iv
	if explicit != nil {
		copy(nonce[ivSize-explicitSize:], explicit)
	} else {
		for i := range 8 {
			nonce[ivSize-8+i] ^= byte(d.number >> (56 - 8*i))
		}
	}
	d.number++
	return nil
}

// explicit reports whether records have a part of their nonces in them.
func (d *direction) explicit() bool { return d.secret == nil && d.aead == hostcrypto.AESGCM }

// additional12 is the additional data of a record of TLS 1.2.
func additional12(number uint64, kind byte, n int) (a [13]byte) {
	binary.BigEndian.PutUint64(a[:], number)
	a[8], a[9], a[10] = kind, 3, 3
	binary.BigEndian.PutUint16(a[11:], uint16(n))
	return a
}

// seal appends a record to out. The content is maxContent bytes at most.
func (d *direction) seal(out []byte, kind byte, content []byte) ([]byte, error) {
	var nonce [ivSize]byte
	out = slices.Grow(out, len(content)+maxOverhead)
	begin, number := len(out), d.number
	if d.secret != nil {
		if err := d.nextNonce(&nonce, nil); err != nil {
			return out, err
		}
		out = append(out, typeData, 3, 3, 0, 0)
		binary.BigEndian.PutUint16(out[begin+3:], uint16(len(content)+1+hostcrypto.Overhead))
		out = append(append(out, content...), kind)
		header := [headerSize]byte(out[begin:])
		plain := out[begin+headerSize:]
		return out[:begin+headerSize+len(d.cipher.Seal(plain[:0], nonce[:], plain, header[:]))], nil
	}
	var explicit []byte
	out = append(out, kind, 3, 3, 0, 0)
	if d.explicit() {
		explicit = binary.BigEndian.AppendUint64(make([]byte, 0, explicitSize), number)
		out = append(out, explicit...)
	}
	if err := d.nextNonce(&nonce, explicit); err != nil {
		return out[:begin], err
	}
	binary.BigEndian.PutUint16(out[begin+3:], uint16(len(explicit)+len(content)+hostcrypto.Overhead))
	at := len(out)
	out = append(out, content...)
	additional := additional12(number, kind, len(content))
	return out[:at+len(d.cipher.Seal(out[at:at], nonce[:], out[at:], additional[:]))], nil
}

// length returns that of the record that begins with the header, which it checks.
func (d *direction) length(header []byte) (int, error) {
	n, most := int(binary.BigEndian.Uint16(header[3:])), maxContent+256
	if d.secret == nil {
		most = maxContent + 2048
	}
	switch kind := header[0]; {
	case header[1] != 3 || kind < typeAlert || kind > typeData || d.secret != nil && kind != typeData:
		return 0, alertUnexpectedMessage
	case n > most:
		return 0, alertRecordOverflow
	}
	return headerSize + n, nil
}

// open opens a whole record, whose content it writes to out, wherever that lies.
func (d *direction) open(out, record []byte) (kind byte, content []byte, err error) {
	var nonce [ivSize]byte
	header := [headerSize]byte(record)
	box := record[headerSize:]
	number := d.number
	if d.secret == nil {
		var explicit []byte
		if d.explicit() {
			if len(box) < explicitSize {
				return 0, nil, alertBadRecord
			}
			explicit, box = box[:explicitSize], box[explicitSize:]
		}
		if err := d.nextNonce(&nonce, explicit); err != nil {
			return 0, nil, err
		}
		additional := additional12(number, header[0], len(box)-hostcrypto.Overhead)
		if content, err = d.cipher.Open(out[:0], nonce[:], box, additional[:]); err != nil {
			return 0, nil, alertBadRecord
		}
		kind = header[0]
	} else {
		if err := d.nextNonce(&nonce, nil); err != nil {
			return 0, nil, err
		}
		if content, err = d.cipher.Open(out[:0], nonce[:], box, header[:]); err != nil {
			return 0, nil, alertBadRecord
		}
		for len(content) > 0 && content[len(content)-1] == 0 {
			content = content[:len(content)-1]
		}
		if len(content) == 0 {
			return 0, nil, alertUnexpectedMessage
		}
		kind, content = content[len(content)-1], content[:len(content)-1]
	}
	if len(content) > maxContent {
		return 0, nil, alertRecordOverflow
	}
	return kind, content, nil
}

// mostUseless is how many records without data a peer may send in a row.
const mostUseless = 32

// maxMessage is the longest handshake message that a peer may send, in bytes: a ticket.
const maxMessage = 64 << 10

// opener opens the records that come in.
type opener struct {
	*direction
	message []byte // the beginning of a handshake message
	useless int    // records without data in a row
	ended   bool   // by the peer's close_notify
	// update is called when the peer wants to get new keys, too.
	update func()
}

// open opens the records at the beginning of data, over which it puts their payload. It
// returns what is left, the beginning of a record; payload is valid also with an error,
// which is io.EOF where the peer has ended its direction.
func (o *opener) open(data []byte) (payload, rest []byte, err error) {
	n := 0
	for rest = data; !o.ended && len(rest) >= headerSize; {
		size, err := o.length(rest)
		if err != nil {
			return data[:n], nil, err
		}
		if len(rest) < size {
			return data[:n], rest, nil
		}
		kind, content, err := o.direction.open(data[n:], rest[:size])
		rest = rest[size:]
		if err != nil {
			return data[:n], nil, err
		}
		if kind == typeData && len(content) > 0 {
			n += len(content)
			o.useless = 0
			continue
		}
		if o.useless++; o.useless > mostUseless {
			return data[:n], nil, alertUnexpectedMessage
		}
		if err := o.take(kind, content); err != nil {
			return data[:n], nil, err
		}
	}
	if o.ended {
		return data[:n], nil, io.EOF
	}
	return data[:n], rest, nil
}

// take deals with a record that has no data.
func (o *opener) take(kind byte, content []byte) error {
	switch {
	case len(o.message) > 0 && kind != typeHandshake:
		return alertUnexpectedMessage
	case kind == typeData:
		return nil
	case kind == typeHandshake && len(content) > 0:
		if o.message = append(o.message, content...); len(o.message) > maxMessage {
			return alertUnexpectedMessage
		}
		return o.messages()
	case kind == typeAlert && len(content) == 2:
		switch a := alert(content[1]); {
		case a == alertCloseNotify:
			o.ended = true
			return nil
		case a == alertUserCanceled, o.secret == nil && content[0] == 1:
			return nil // a warning
		default:
			return peerAlert(a)
		}
	}
	return alertUnexpectedMessage
}

// messages deals with the handshake messages that are complete. Tickets are of no use here:
// the library, which would resume a session, is gone.
func (o *opener) messages() error {
	const headerSize = 4
	for len(o.message) >= headerSize {
		m := o.message
		size := headerSize + int(m[1])<<16 + int(m[2])<<8 + int(m[3])
		if size > maxMessage {
			return alertUnexpectedMessage
		}
		if len(m) < size {
			return nil
		}
		body := m[headerSize:size]
		o.message = m[size:]
		switch kind := m[0]; {
		case kind == messageTicket && o.secret != nil:
		case kind == messageHelloRequest && o.secret == nil && len(body) == 0:
			// It may be ignored (RFC 5246, section 7.4.1.1).
		case kind == messageKeyUpdate && o.secret != nil:
			// New keys begin with a record.
			if len(body) != 1 || body[0] > 1 || len(o.message) > 0 {
				return alertDecode
			}
			if err := o.direction.update(); err != nil {
				return err
			}
			if body[0] == 1 {
				o.update()
			}
		default:
			return alertUnexpectedMessage
		}
	}
	if len(o.message) == 0 {
		o.message = nil
	}
	return nil
}
