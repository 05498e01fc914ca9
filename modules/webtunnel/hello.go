package main

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"sync"
	"time"

	tls "github.com/refraction-networking/utls"

	"waterproxy/watm/hostcrypto"
)

// hello is a client's side of TLS before its first message, with its keys.
type hello struct {
	conn    *tls.UConn
	config  *tls.Config
	secrets secrets
}

// newHello makes a hello, most of whose time goes into keys. It calls pause between them.
func newHello(f *fingerprint, pause func()) (*hello, error) {
	h := new(hello)
	h.config = &tls.Config{
		InsecureSkipVerify: true, // VerifyPeerCertificate does that
		MinVersion:         tls.VersionTLS12,
		KeyLogWriter:       &h.secrets,
		NextProtos:         f.protocols(),
		OmitEmptyPsk:       true,
	}
	h.conn = tls.UClient(nil, h.config, f.id())
	if f.spec == nil {
		return h, nil
	}
	spec, err := f.spec()
	if err != nil {
		return nil, err
	}
	keys, err := makeKeys(spec, pause)
	if err != nil {
		return nil, err
	}
	if err := h.conn.ApplyPreset(spec); err != nil {
		return nil, err
	}
	if keys != nil {
		h.conn.HandshakeState.State13.KeyShareKeys = keys
	}
	return h, nil
}

// makeKeys puts keys into the extensions of a hello, where they are those of a Chrome; nil
// leaves them to the library.
func makeKeys(spec *tls.ClientHelloSpec, pause func()) (keys *tls.KeySharePrivateKeys, err error) {
	for _, e := range spec.Extensions {
		switch e := e.(type) {
		case *tls.GREASEEncryptedClientHelloExtension:
			pause()
			e.EncapsulatedKey = publicKey()
		case *tls.KeyShareExtension:
			if keys, err = makeShares(e.KeyShares, pause); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}

// greaseShare is how the library marks a share that it fills with nothing.
const greaseShare = tls.CurveID(tls.GREASE_PLACEHOLDER)

func makeShares(shares []tls.KeyShare, pause func()) (*tls.KeySharePrivateKeys, error) {
	for _, s := range shares {
		if s.Group != greaseShare && s.Group != tls.X25519MLKEM768 && s.Group != tls.X25519 {
			return nil, nil
		}
	}
	keys := &tls.KeySharePrivateKeys{CurveID: tls.X25519}
	for i, s := range shares {
		if s.Group == greaseShare {
			continue
		}
		pause()
		private, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		if s.Group == tls.X25519 {
			keys.Ecdhe, shares[i].Data = private, private.PublicKey().Bytes()
			continue
		}
		pause()
		if keys.Mlkem, err = mlkem.GenerateKey768(); err != nil {
			return nil, err
		}
		keys.MlkemEcdhe, shares[i].Data = private, append(keys.Mlkem.EncapsulationKey().Bytes(), private.PublicKey().Bytes()...)
	}
	return keys, nil
}

// publicKey makes a public key whose private key is not needed.
func publicKey() []byte {
	private, base := new([hostcrypto.KeySize]byte), &[hostcrypto.KeySize]byte{9}
	_, _ = rand.Read(private[:]) // it never fails
	public, _ := hostcrypto.X25519(private, base)
	return public[:]
}

// hellosAhead makes one hello before it is needed, of the fingerprint that was used last: its
// keys are much of a handshake's work, and do not depend on the server.
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
	return newHello(f, func() {})
}

// fill makes the next one, in the background. It is called when a connection is set up: what
// is under way comes first.
func (a *hellosAhead) fill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.making && a.ready == nil && a.of != nil {
		a.making = true
		go a.make(a.of)
	}
}

// keyPause lets connections have their turn between two keys: an instance has one thread,
// which looks for what has come only when it has nothing to do.
const keyPause = time.Millisecond

func (a *hellosAhead) make(f *fingerprint) {
	h, err := newHello(f, func() { time.Sleep(keyPause) })
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.making = false; err == nil && a.of == f { // an error shows again where a hello is needed
		a.ready = h
	}
}
