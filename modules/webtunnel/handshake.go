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

// shake does the TLS handshake with a bridge. The library does all of it; the connection
// that comes out needs the library no more, unless the server has chosen a cipher that the
// host does not have.
func (t *webtunnel) shake(wire watm.Conn, b *bridge, name string) (watm.Conn, error) {
	h, err := t.hellos.take(b.fingerprint)
	if err != nil {
		return nil, err
	}
	h.config.VerifyPeerCertificate = func(certificates [][]byte, _ [][]*x509Certificate) error {
		return b.verifyCertificates(certificates, name)
	}
	records := &recordReader{Conn: wire}
	h.conn.SetUnderlyingConn(records)
	h.conn.SetSNI(name)
	if err := h.conn.Handshake(); err != nil {
		return nil, err
	}
	return h.connection(wire, records)
}

// connection returns the connection after the handshake.
func (h *hello) connection(wire watm.Conn, records *recordReader) (watm.Conn, error) {
	state := h.conn.ConnectionState()
	if state.Version < tls.VersionTLS12 {
		return nil, errVersion
	}
	if p := state.NegotiatedProtocol; p != "" && p != http11 {
		return nil, errProtocol
	}
	s, err := suites[state.CipherSuite], error(nil)
	if s == nil || !records.between() {
		return h.conn, nil
	}
	var out, in *direction
	if state.Version == tls.VersionTLS12 {
		random := records.serverRandom()
		if random == nil || h.secrets.master == nil {
			return h.conn, nil
		}
		out, in, err = newDirections12(s, h.secrets.master, h.secrets.random, random)
	} else {
		if h.secrets.client == nil || h.secrets.server == nil {
			return nil, errors.New("the TLS library gives no keys away")
		}
		if out, err = newDirection13(s, h.secrets.client); err == nil {
			in, err = newDirection13(s, h.secrets.server)
		}
	}
	if err != nil {
		return nil, err
	}
	return newConn(wire, out, in), nil
}

// recordReader gives the library no byte behind the record that it is about to read, so that
// all that follows the handshake is left.
type recordReader struct {
	watm.Conn
	header [headerSize]byte
	have   int // of the header
	left   int // of the record, behind its header
	first  []byte
}

// beginning is what is kept of the first record: a server's hello up to its random number.
const (
	beginning    = headerSize + randomAt + randomSize
	randomAt     = 4 + 2 // behind the message's header and the version
	randomSize   = 32
	messageHello = 2
)

// Read implements net.Conn.
func (r *recordReader) Read(p []byte) (int, error) {
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
	return n, err
}

// between reports whether a record has just ended.
func (r *recordReader) between() bool { return r.have == headerSize && r.left == 0 }

// serverRandom returns the server's random number, nil if the first record has none.
func (r *recordReader) serverRandom() []byte {
	if len(r.first) < beginning || r.first[0] != typeHandshake || r.first[headerSize] != messageHello {
		return nil
	}
	return r.first[headerSize+randomAt:]
}

// secrets takes the keys of a connection from the library's log of them.
type secrets struct {
	random []byte // the client's
	master []byte // of TLS 1.2
	client []byte // of TLS 1.3, for data, like the next one
	server []byte
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
	if s.random, err = hex.AppendDecode(nil, fields[1]); err != nil {
		return 0, fmt.Errorf("the TLS library's log of keys: %w", err)
	}
	return len(line), nil
}
