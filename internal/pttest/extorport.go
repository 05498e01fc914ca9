package pttest

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
)

// CookieHeader is what an Extended ORPort's cookie file begins with (ext-orport-spec
// 2.1.2).
const CookieHeader = "! Extended ORPort Auth Cookie !\n"

// Replies of an Extended ORPort (ext-orport-spec 3.1).
const (
	Okay = "\x10\x00\x00\x00"
	Deny = "\x10\x01\x00\x00"
)

// ExtORPort is tor's side of a connection to the Extended ORPort (ext-orport-spec). Its
// zero value knows no cookie; it authenticates and takes the connection.
type ExtORPort struct {
	Cookie  []byte // that it knows
	Types   string // of authentication that it offers, with the 0 that ends them; 1 if empty
	Refuses bool   // the authentication
	Replies string // after the commands; Okay if empty

	Chosen   byte              // the type that the proxy chose
	Commands map[uint16]string // of the proxy, up to DONE
}

// Serve speaks to a proxy up to the replies. Without an authentication, and after one
// that it refuses, it returns at once.
func (e *ExtORPort) Serve(c io.ReadWriter) error {
	types := e.Types
	if types == "" {
		types = "\x01\x00"
	}
	if _, err := io.WriteString(c, types); err != nil {
		return err
	}
	var choice [1]byte
	if _, err := io.ReadFull(c, choice[:]); err != nil {
		return err
	}
	if e.Chosen = choice[0]; e.Chosen != 1 {
		return nil
	}
	if err := e.authenticate(c); err != nil || e.Refuses {
		return err
	}
	if err := e.readCommands(c); err != nil {
		return err
	}
	replies := e.Replies
	if replies == "" {
		replies = Okay
	}
	_, err := io.WriteString(c, replies)
	return err
}

// authenticate is SAFE_COOKIE (ext-orport-spec 2.1.3).
func (e *ExtORPort) authenticate(c io.ReadWriter) error {
	nonces := make([]byte, 64) // the client's and ours
	if _, err := io.ReadFull(c, nonces[:32]); err != nil {
		return err
	}
	if _, err := rand.Read(nonces[32:]); err != nil {
		return err
	}
	hash := func(direction string) []byte {
		h := hmac.New(sha256.New, e.Cookie)
		io.WriteString(h, "ExtORPort authentication "+direction+" hash")
		h.Write(nonces)
		return h.Sum(nil)
	}
	if _, err := c.Write(append(hash("server-to-client"), nonces[32:]...)); err != nil {
		return err
	}
	got := make([]byte, 32)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, hash("client-to-server")) {
		return errors.New("the proxy's hash is wrong")
	}
	status := []byte{1}
	if e.Refuses {
		status[0] = 0
	}
	_, err := c.Write(status)
	return err
}

func (e *ExtORPort) readCommands(c io.Reader) error {
	e.Commands = map[uint16]string{}
	for {
		var head struct{ Command, Length uint16 }
		if err := binary.Read(c, binary.BigEndian, &head); err != nil {
			return err
		}
		body := make([]byte, head.Length)
		if _, err := io.ReadFull(c, body); err != nil {
			return err
		}
		if head.Command == 0 {
			return nil
		}
		e.Commands[head.Command] = string(body)
	}
}
