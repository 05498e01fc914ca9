package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"sync"

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

// hello is a client's side of TLS before its first message, with its keys.
type hello struct {
	conn    *tls.UConn
	config  *tls.Config
	secrets secrets
}

// newHello makes a hello, most of whose time goes into keys.
func newHello(f *fingerprint) (*hello, error) {
	h := new(hello)
	h.config = &tls.Config{
		InsecureSkipVerify: true, // VerifyPeerCertificate does that
		MinVersion:         tls.VersionTLS12,
		KeyLogWriter:       &h.secrets,
		NextProtos:         f.protocols(),
	}
	h.conn = tls.UClient(nil, h.config, f.id())
	if f.spec == nil {
		return h, nil
	}
	spec, err := f.spec()
	if err != nil {
		return nil, err
	}
	if err := h.conn.ApplyPreset(spec); err != nil {
		return nil, err
	}
	// This makes what remains of the keys, those of an extension that hides nothing (ECH).
	return h, h.conn.BuildHandshakeStateWithoutSession()
}

// hellosAhead makes one hello before it is needed, of the fingerprint that was used last: the
// keys are a third of a handshake's work, and do not depend on the server.
type hellosAhead struct {
	mu     sync.Mutex
	ready  *hello
	of     *fingerprint
	making bool
}

// take returns a hello of a fingerprint.
func (a *hellosAhead) take(f *fingerprint) (*hello, error) {
	a.mu.Lock()
	h, of := a.ready, a.of
	a.ready, a.of = nil, f
	a.mu.Unlock()
	if h != nil && of == f {
		return h, nil
	}
	return newHello(f)
}

// fill makes the next one, in the background. It is called when a connection is set up: what
// is under way comes first.
func (a *hellosAhead) fill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.making || a.ready != nil || a.of == nil {
		return
	}
	a.making = true
	go a.make(a.of)
}

func (a *hellosAhead) make(f *fingerprint) {
	runtime.Gosched()
	h, err := newHello(f)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.making = false; err == nil && a.of == f { // an error shows again where a hello is needed
		a.ready = h
	}
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
