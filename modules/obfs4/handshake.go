package main

import (
	"bytes"
	"errors"
	randv2 "math/rand/v2"
	"strconv"
	"time"

	"waterproxy/modules/internal/prefix"
	"waterproxy/watm/hostcrypto"
)

// Both sides begin with a representative, random padding, a mark that ends the padding and
// a MAC over all of it (obfs4-spec, section 4). The server's has a proof in it that it has
// the bridge's key, and the seed of the distributions follows in a frame.
const (
	markLength   = 16 // and that of the MAC
	authLength   = 32
	maxHandshake = 8192 // bytes

	minClientHandshake = keyLength + 2*markLength
	minServerHandshake = keyLength + authLength + 2*markLength
	seedFrame          = frameHeader + seedLength

	// The client pads as much at least as makes it as long as the server's shortest
	// answer with its seed.
	minClientPadding = minServerHandshake + seedFrame - minClientHandshake
	maxClientPadding = maxHandshake - minClientHandshake
	maxServerPadding = maxHandshake - minServerHandshake - seedFrame
)

var (
	errMore      = errors.New("the handshake is not complete")
	errHandshake = errors.New("it is no handshake for this bridge")
	errReplay    = errors.New("the handshake has been there before")
)

// epochHour is part of every MAC, so that a handshake is good for a while only.
func epochHour(now time.Time) int64 { return now.Unix() / 3600 }

// sealHandshake appends to a handshake, which has room for it, padding, mark and MAC. Its
// first bytes may be a prefix, of that length.
func sealHandshake(message []byte, bridge *identity, prefix, padding int, hour int64) []byte {
	mark := handshakeMark(message[prefix:], bridge)
	message = message[:len(message)+padding]
	random(message[len(message)-padding:])
	message = append(message, mark...)
	return append(message, handshakeMAC(message, bridge.macKey(), hour)...)
}

// handshakeMark returns the mark of a message, whose representative it depends on.
func handshakeMark(message []byte, bridge *identity) []byte {
	mark := hostcrypto.HMACSHA256(bridge.macKey(), message[:keyLength])
	return mark[:markLength]
}

func handshakeMAC(message, macKey []byte, hour int64) []byte {
	mac := hostcrypto.HMACSHA256(macKey, strconv.AppendInt(message[:len(message):len(message)], hour, 10))
	return mac[:markLength]
}

// clientHandshake is the client's side, from its message to the server's.
type clientHandshake struct {
	bridge  *identity
	prefix  prefix.Prefix // before the handshake; nil if there is none
	session sessionKey
	hour    int64
	mark    []byte // of the server's message; nil before its first bytes
}

// message returns what the client sends. It is no longer with a prefix.
func (h *clientHandshake) message(now time.Time) []byte {
	h.hour = epochHour(now)
	message := make([]byte, len(h.prefix), maxHandshake)
	h.prefix.Fill(message)
	message = append(message, h.session.representative[:]...)
	padding := minClientPadding + randv2.IntN(maxClientPadding-len(h.prefix)-minClientPadding+1)
	return sealHandshake(message, h.bridge, len(h.prefix), padding, h.hour)
}

// answered looks at what the server has sent so far. It returns the length of the
// handshake and the seed of the keys, or errMore.
func (h *clientHandshake) answered(got []byte) (n int, secret [32]byte, err error) {
	if len(got) < minServerHandshake {
		return 0, secret, errMore
	}
	if h.mark == nil {
		h.mark = handshakeMark(got, h.bridge)
	}
	at := bytes.Index(got[keyLength+authLength:min(len(got), maxHandshake)], h.mark)
	end := keyLength + authLength + at + 2*markLength
	if at < 0 || end > min(len(got), maxHandshake) {
		if len(got) >= maxHandshake {
			return 0, secret, errHandshake
		}
		return 0, secret, errMore
	}
	if !equal(handshakeMAC(got[:end-markLength], h.bridge.macKey(), h.hour), got[end-markLength:end]) {
		return 0, secret, errHandshake
	}
	representative := key(got[:keyLength])
	server := hostcrypto.Elligator2Public(&representative)
	secrets, err := clientNtor(&h.session, &server, h.bridge)
	if err == nil && !equal(secrets.auth[:], got[keyLength:keyLength+authLength]) {
		err = errHandshake
	}
	return end, secrets.seed, err
}

// serverHandshake is the server's side.
type serverHandshake struct {
	bridge   *identity
	private  *key // of the bridge
	prefixes []prefix.Prefix
	replays  *replayFilter
	session  sessionKey
	hour     int64  // of the client
	prefix   int    // how long the client's is; 0 if it has none
	mark     []byte // of the client's message; nil before its first bytes
	secrets  ntorSecrets
}

// prefixed returns how many of a client's first bytes are a prefix.
func (h *serverHandshake) prefixed(got []byte) int {
	for _, p := range h.prefixes {
		if p.Match(got) {
			return len(p)
		}
	}
	return 0
}

// asked looks at what the client has sent so far. It returns errMore as long as that may
// become a handshake: the client has to wait for the answer, so it ends with its MAC.
//
// A prefix is not part of the handshake, but the MAC covers it: a handshake without the
// prefix that it was sent with, or with another one, is as bad as one that was changed.
func (h *serverHandshake) asked(got []byte, now time.Time) error {
	const shortest = minClientHandshake + minClientPadding // and no prefix is longer
	if len(got) < shortest {
		return errMore
	}
	if h.mark == nil {
		h.prefix = h.prefixed(got)
		if len(got) < h.prefix+shortest {
			return errMore
		}
		h.mark = handshakeMark(got[h.prefix:], h.bridge)
	}
	end := min(len(got), maxHandshake)
	if !equal(h.mark, got[end-2*markLength:end-markLength]) {
		if len(got) >= maxHandshake {
			return errHandshake
		}
		return errMore
	}
	macKey, found := h.bridge.macKey(), false
	for _, hour := range []int64{epochHour(now), epochHour(now) - 1, epochHour(now) + 1} {
		// All three, so that it takes the same time.
		if equal(handshakeMAC(got[:end-markLength], macKey, hour), got[end-markLength:end]) {
			found, h.hour = true, hour
		}
	}
	switch {
	case !found || len(got) > end:
		return errHandshake
	case h.replays.isReplay(got[end-markLength:end], now):
		return errReplay
	}
	representative := key(got[h.prefix:][:keyLength])
	client := hostcrypto.Elligator2Public(&representative)
	secrets, err := serverNtor(&h.session, &client, h.bridge, h.private)
	h.secrets = secrets
	return err
}

// message returns what the server answers. There is room for the frame with the seed.
func (h *serverHandshake) message() []byte {
	message := append(make([]byte, 0, maxHandshake), h.session.representative[:]...)
	message = append(message, h.secrets.auth[:]...)
	return sealHandshake(message, h.bridge, 0, randv2.IntN(maxServerPadding+1), h.hour)
}

// sessionKeys derives the keys of both directions: the client's comes first.
func sessionKeys(secret *[32]byte) (client, server *direction) {
	keys := hostcrypto.HKDFSHA256(secret[:], []byte(keyTag), expandTag, 2*keysLength)
	return newDirection(keys[:keysLength]), newDirection(keys[keysLength:])
}
