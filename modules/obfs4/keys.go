package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"runtime"
	"sync/atomic"

	"waterproxy/watm/hostcrypto"
)

// key is a key of X25519, public or private, or the representative of a public one.
type key = [keyLength]byte

// basePoint is what X25519 multiplies for a public key (RFC 7748, section 4.1).
var basePoint = key{9}

// identity is what a client knows of a bridge: the certificate in the bridge line.
type identity struct {
	nodeID [nodeIDLength]byte
	public key
}

func (id *identity) cert() string {
	return base64.RawStdEncoding.EncodeToString(append(id.nodeID[:], id.public[:]...))
}

// macKey is that of marks and MACs in handshakes.
func (id *identity) macKey() []byte {
	return append(append([]byte(nil), id.public[:]...), id.nodeID[:]...)
}

// sessionKey is the key of one side for one connection, whose public part goes over the
// wire as a representative, which looks like random bytes.
type sessionKey struct{ private, public, representative key }

func newSessionKey() (k sessionKey) {
	var tweak [1]byte
	for ok := false; !ok; {
		random(k.private[:])
		random(tweak[:])
		k.public, k.representative, ok = hostcrypto.Elligator2Key(&k.private, tweak[0])
	}
	return k
}

// keysAhead are keys that are made before they are needed: while a connection waits for
// the network, and not before it writes.
type keysAhead struct {
	made   chan sessionKey
	making atomic.Bool
}

var sessionKeysAhead = keysAhead{made: make(chan sessionKey, 8)}

// take returns a key that nobody else gets, and has the next ones made.
func (a *keysAhead) take() sessionKey {
	if a.making.CompareAndSwap(false, true) {
		go a.fill()
	}
	select {
	case k := <-a.made:
		return k
	default:
		return newSessionKey()
	}
}

// fill makes keys until there are enough.
func (a *keysAhead) fill() {
	defer a.making.Store(false)
	for len(a.made) < cap(a.made) {
		runtime.Gosched() // connections come first
		a.made <- newSessionKey()
	}
}

// random fills b with random bytes.
func random(b []byte) {
	_, _ = rand.Read(b) // it never fails
}

var errNtor = errors.New("the peer's key is not usable")

// What the ntor handshake calls these (tor-spec, "The ntor handshake", and obfs4's variant
// of it in obfs4-spec, section 3).
const (
	protoID   = "ntor-curve25519-sha256-1"
	macTag    = protoID + ":mac"
	keyTag    = protoID + ":key_extract"
	verifyTag = protoID + ":key_verify"
	expandTag = protoID + ":key_expand"
)

// ntorSecrets are what both sides get out of the handshake.
type ntorSecrets struct {
	seed, auth [32]byte
}

// clientNtor is the client's side: x is its own key, y the bridge's for the session.
func clientNtor(x *sessionKey, y *key, bridge *identity) (ntorSecrets, error) {
	one, ok1 := hostcrypto.X25519(&x.private, y)
	two, ok2 := hostcrypto.X25519(&x.private, &bridge.public)
	return ntor(&one, &two, bridge, &x.public, y), check(ok1 && ok2)
}

// serverNtor is the bridge's side: b is the private key of its identity.
func serverNtor(y *sessionKey, x *key, bridge *identity, b *key) (ntorSecrets, error) {
	one, ok1 := hostcrypto.X25519(&y.private, x)
	two, ok2 := hostcrypto.X25519(b, x)
	return ntor(&one, &two, bridge, x, &y.public), check(ok1 && ok2)
}

func check(ok bool) error {
	if ok {
		return nil
	}
	return errNtor
}

func ntor(one, two *key, bridge *identity, x, y *key) (s ntorSecrets) {
	// The bridge's key is in there twice, since the first implementation has it so.
	suffix := make([]byte, 0, 256)
	for _, part := range [][]byte{bridge.public[:], bridge.public[:], x[:], y[:], []byte(protoID), bridge.nodeID[:]} {
		suffix = append(suffix, part...)
	}
	input := append(append(append(make([]byte, 0, 320), one[:]...), two[:]...), suffix...)
	s.seed = hostcrypto.HMACSHA256([]byte(keyTag), input)
	verify := hostcrypto.HMACSHA256([]byte(verifyTag), input)
	auth := append(append(append(make([]byte, 0, 320), verify[:]...), suffix...), "Server"...)
	s.auth = hostcrypto.HMACSHA256([]byte(macTag), auth)
	return s
}

// equal compares in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// fromHex decodes a text that has been checked.
func fromHex(to []byte, text string) { copy(to, must(hex.DecodeString(text))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
