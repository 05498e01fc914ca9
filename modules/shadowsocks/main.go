// Command shadowsocks is the transport of that name, with the AEAD ciphers of its SIP004
// and of its 2022 edition (SIP022), client and server. It works with shadowsocks-libev and
// others on the other side.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"time"

	"gitlab.com/yawning/obfs4.git/common/replayfilter"

	"waterproxy/modules/internal/prefix"
	"waterproxy/watm"
	_ "waterproxy/watm/singleinstance" // a second instance would not know of the first one's salts
)

// A connection that is not a client's stays open for a time that differs from
// server to server, so that it does not tell which program this is.
const (
	minSilence = 30 * time.Second
	maxSilence = 90 * time.Second
)

// headerDelay is how long a client's header waits for the first payload, to leave
// together with it.
const headerDelay = 50 * time.Millisecond

// saltsKept is how long a server of the 2022 edition remembers a salt: as long as a header
// is good, from one end of clockSkew to the other.
const saltsKept = 2 * clockSkew

var (
	errHandshake = errors.New("the client is none of ours: it has another password or cipher, or is a prober")
	errReplay    = errors.New("the client's salt has been used before: somebody replays a recorded connection")
)

// shadowsocks is the transport. Its fields are a server's.
type shadowsocks struct {
	key *masterKey
	// salts has those of the clients whose handshake was good, and our own, which
	// could come back as a client's. With SIP004 they have no date that would let them
	// expire, so none is forgotten before the filter is full: at 102,400 salts, the last
	// 51,200 connections. They are lost with the process. With the 2022 edition, where
	// the headers have the time, saltsKept is enough.
	salts   *replayfilter.ReplayFilter
	silence time.Duration
}

// Start implements watm.Starter.
func (t *shadowsocks) Start(env *watm.Env) error {
	if !env.Server {
		return nil
	}
	args, err := serverArgs(env)
	if err != nil {
		return err
	}
	if err := t.configure(args); err != nil {
		return err
	}
	env.KeepOpen(t.silence)
	return env.Publish(args)
}

// silenceOf draws a server's silence from its key: it is the same after a new start, and of an
// instance that takes another's place, neither of which is a prober to see.
func silenceOf(key []byte) time.Duration {
	sum := sha256.Sum256(append([]byte("silence of "), key...))
	return minSilence + time.Duration(binary.BigEndian.Uint64(sum[:])%uint64(maxSilence-minSilence))
}

// configure makes the transport a server's.
func (t *shadowsocks) configure(args watm.Args) (err error) {
	if t.key, err = newKey(args); err != nil {
		return err
	}
	t.silence = silenceOf(t.key.key)
	kept := time.Duration(math.MaxInt64)
	if t.key.edition2022 {
		kept = saltsKept
	}
	t.salts, err = replayfilter.New(kept)
	return err
}

// CheckArgs implements watm.ArgsChecker.
func (*shadowsocks) CheckArgs(args watm.Args) error {
	if err := args.CheckOnce("cipher", "password", "target", "prefix"); err != nil {
		return err
	}
	key, err := newKey(args)
	if err != nil {
		return err
	}
	if _, err := saltPrefix(args, key.method); err != nil {
		return err
	}
	_, err = clientAddress(args)
	return err
}

// Client implements watm.Transport. It has nothing to wait for: the server does not
// answer the header.
func (*shadowsocks) Client(_ context.Context, wire watm.Conn, args watm.Args) (net.Conn, error) {
	key, err := newKey(args)
	if err != nil {
		return nil, err
	}
	address, err := clientAddress(args)
	if err != nil {
		return nil, err
	}
	begin, err := saltPrefix(args, key.method)
	if err != nil {
		return nil, err
	}
	out, err := newWriter(wire, key, begin)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: wire, in: opener{key: key}, out: out}
	out.begin = key.beginRequest(address)
	if key.edition2022 {
		salt := out.salt
		c.in.headerSize = key.responseHeader()
		c.in.header = func(header []byte) (int, error) {
			return readFixedHeader(header, kindResponse, time.Now(), salt)
		}
	}
	out.beginAfter(headerDelay)
	return c, nil
}

// Server implements watm.Transport. After a bad handshake it reads on and sends
// nothing for as long as it would wait for a handshake: a prober sees the same
// whatever it sends, and however much.
func (t *shadowsocks) Server(ctx context.Context, wire watm.Conn) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	if err := wire.SetReadDeadline(time.Now().Add(t.silence)); err != nil {
		return nil, err
	}
	c, err := t.handshake(wire)
	if err != nil {
		log.Print(err)                   // the host may only say later that the time was up
		_, _ = io.Copy(io.Discard, wire) // how it ends does not matter any more
		return nil, err
	}
	return c, wire.SetReadDeadline(time.Time{})
}

// handshake reads what a client begins with, and ignores its destination.
func (t *shadowsocks) handshake(wire watm.Conn) (net.Conn, error) {
	c := &conn{Conn: wire, in: opener{key: t.key}}
	if t.key.edition2022 {
		c.in.headerSize = requestHeader
		c.in.header = func(header []byte) (int, error) {
			return readFixedHeader(header, kindRequest, time.Now(), nil)
		}
	}
	length, err := 0, io.ErrUnexpectedEOF
	for err == io.ErrUnexpectedEOF {
		if failed := c.read.Fill(c.batch); failed != nil {
			return nil, handshakeError(failed)
		}
		length, err = t.key.requestLength(c.read.Left)
	}
	if err != nil {
		return nil, err
	}
	c.read.Left = c.read.Left[length:]
	if t.salts.TestAndSet(time.Now(), c.in.salt) {
		return nil, errReplay
	}
	if c.out, err = newWriter(wire, t.key, nil); err != nil {
		return nil, err
	}
	t.salts.TestAndSet(time.Now(), c.out.salt) // it is new: it was drawn just now
	if t.key.edition2022 {
		c.out.begin = t.key.beginResponse(c.in.salt)
	}
	return c, nil
}

// handshakeError tells a connection that broke or said too little from one that
// said the wrong thing.
func handshakeError(err error) error {
	var failed net.Error
	if errors.As(err, &failed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("the client's handshake is not complete: %w", err)
	}
	if errors.Is(err, errClock) {
		return err // who has the key may have a clock that is wrong
	}
	return errHandshake
}

// newSalt draws a salt that begins with a prefix, if there is one, for which there is room.
func newSalt(key *masterKey, begin prefix.Prefix) []byte {
	salt := make([]byte, key.keySize)
	rand.Read(salt) // it never fails
	begin.Fill(salt)
	return salt
}

func main() { watm.Run(&shadowsocks{}) }
