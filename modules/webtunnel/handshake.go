package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	tls "github.com/refraction-networking/utls"

	"waterproxy/watm"
)

// shake does the TLS handshake with a bridge. The library does all of it, and carries the
// upgrade as well: servers send their tickets before they answer it.
func (t *webtunnel) shake(wire watm.Conn, b *bridge, name string) (*opening, error) {
	h, err := t.hellos.take(b.fingerprint)
	if err != nil {
		return nil, err
	}
	h.config.VerifyPeerCertificate = func(certificates [][]byte, _ [][]*x509Certificate) error {
		return b.verifyCertificates(certificates, name)
	}
	if b.fingerprint.resumes {
		h.config.ClientSessionCache = t.tickets.of(b, name, &h.secrets.resumed)
	}
	records := &recordCounter{Conn: wire}
	h.conn.SetUnderlyingConn(records)
	h.conn.SetSNI(name)
	if err := h.conn.Handshake(); err != nil {
		return nil, err
	}
	state := h.conn.ConnectionState()
	switch p := state.NegotiatedProtocol; {
	case state.Version < tls.VersionTLS12:
		return nil, errVersion
	case p != "" && p != http11:
		return nil, errProtocol
	}
	records.reads, records.writes = 0, 0
	return &opening{UConn: h.conn, hello: h, records: records, suite: suites[state.CipherSuite], version: state.Version, resumed: state.DidResume}, nil
}

// opening is a TLS connection after the handshake, while the library carries it.
type opening struct {
	*tls.UConn
	hello   *hello
	records *recordCounter
	suite   *suite // nil if the host does not have it
	version uint16
	resumed bool
	content [maxContent]byte
	read    []byte // in content, what Read has not given away yet
}

// Read implements net.Conn. The library keeps nothing of a record.
func (o *opening) Read(p []byte) (int, error) {
	if len(o.read) == 0 {
		n, err := o.UConn.Read(o.content[:])
		if o.read = o.content[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, o.read)
	o.read = o.read[n:]
	return n, nil
}

// settle returns the connection after the upgrade, behind which rest has come. It needs the
// library no more, unless the server has chosen a cipher that the host does not have.
func (o *opening) settle(rest []byte) (watm.Conn, error) {
	rest = append(append(make([]byte, 0, len(rest)+len(o.read)), rest...), o.read...)
	out, in, err := o.directions()
	if err != nil {
		return nil, err
	}
	if out == nil {
		return putBack(o.UConn, rest), nil
	}
	out.number += o.records.writes
	in.number += o.records.reads
	c := newConn(o.records.Conn, out, in)
	if len(rest) > 0 {
		c.read.Left = rest
	}
	return c, nil
}

// directions returns the ciphers after the handshake, nil if they stay with the library.
func (o *opening) directions() (out, in *direction, err error) {
	secrets := &o.hello.secrets
	if o.suite == nil || !o.records.between() {
		return nil, nil, nil
	}
	if o.version == tls.VersionTLS12 {
		master, random := secrets.master, o.records.serverRandom()
		if o.resumed {
			master = secrets.resumed
		}
		if random == nil || master == nil {
			return nil, nil, nil
		}
		return newDirections12(o.suite, master, o.HandshakeState.Hello.Random, random)
	}
	if secrets.client == nil || secrets.server == nil {
		return nil, nil, errors.New("the TLS library gives no keys away")
	}
	if out, err = newDirection13(o.suite, secrets.client); err != nil {
		return nil, nil, err
	}
	in, err = newDirection13(o.suite, secrets.server)
	return out, in, err
}

// recordCounter gives the library no byte behind the record that it is about to read, so that
// all that follows is left, and counts the records both ways.
type recordCounter struct {
	watm.Conn
	header        [headerSize]byte
	have          int // of the header
	left          int // of the record, behind its header
	first         []byte
	reads, writes uint64
}

// beginning is what is kept of the first record: a server's hello up to its random number.
const (
	beginning    = headerSize + randomAt + randomSize
	randomAt     = 4 + 2 // behind the message's header and the version
	randomSize   = 32
	messageHello = 2
)

// Read implements net.Conn.
func (r *recordCounter) Read(p []byte) (int, error) {
	if r.have == headerSize && r.left == 0 {
		r.have = 0
	}
	most := r.left
	if r.have < headerSize {
		most = headerSize - r.have
	}
	n, err := r.Conn.Read(p[:min(len(p), most)])
	if len(r.first) < beginning {
		r.first = append(r.first, p[:min(n, beginning-len(r.first))]...)
	}
	if r.have < headerSize {
		if r.have += copy(r.header[r.have:], p[:n]); r.have == headerSize {
			r.left = int(binary.BigEndian.Uint16(r.header[3:]))
		}
	} else {
		r.left -= n
	}
	if n > 0 && r.between() {
		r.reads++
	}
	return n, err
}

// Write implements net.Conn. The library writes whole records.
func (r *recordCounter) Write(p []byte) (int, error) {
	for rest := p; len(rest) >= headerSize; r.writes++ {
		rest = rest[min(len(rest), headerSize+int(binary.BigEndian.Uint16(rest[3:]))):]
	}
	return r.Conn.Write(p)
}

// between reports whether a record has just ended.
func (r *recordCounter) between() bool { return r.have == headerSize && r.left == 0 }

// serverRandom returns the server's random number, nil if the first record has none.
func (r *recordCounter) serverRandom() []byte {
	if len(r.first) < beginning || r.first[0] != typeHandshake || r.first[headerSize] != messageHello {
		return nil
	}
	return r.first[headerSize+randomAt:]
}

// secrets takes the keys of a connection from the library's log of them.
type secrets struct {
	master  []byte // of TLS 1.2
	resumed []byte // the same of an earlier session, if this one resumes it
	client  []byte // of TLS 1.3, for data, like the next one
	server  []byte
}

// Write takes one line: a label, the client's random number and a secret.
func (s *secrets) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return 0, errors.New("a line of the TLS library's log of keys is malformed")
	}
	var to *[]byte
	switch string(fields[0]) {
	case "CLIENT_RANDOM":
		to = &s.master
	case "CLIENT_TRAFFIC_SECRET_0":
		to = &s.client
	case "SERVER_TRAFFIC_SECRET_0":
		to = &s.server
	default:
		return len(line), nil
	}
	var err error
	if *to, err = hex.AppendDecode(nil, fields[2]); err != nil {
		return 0, fmt.Errorf("the TLS library's log of keys: %w", err)
	}
	return len(line), nil
}
