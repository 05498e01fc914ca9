package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"waterproxy/internal/userfile"
)

// ORPort is where tor is.
type ORPort struct {
	Addr     *net.TCPAddr // its ORPort; nil if there is only the other
	Extended *net.TCPAddr // its Extended ORPort, which is preferred; nil if there is none
	// CookieFile is the secret that the Extended ORPort asks for.
	CookieFile string
	// LocalAddr is where connections come from; nil for the system's choice.
	LocalAddr net.Addr
}

// The numbers of the Extended ORPort (ext-orport-spec).
const (
	authNone       = 0
	authSafeCookie = 1
	authSucceeded  = 1

	commandDone      = 0x0000
	commandUserAddr  = 0x0001
	commandTransport = 0x0002
	replyOkay        = 0x1000
	replyDeny        = 0x1001

	// maxReplies bounds the replies to one client.
	maxReplies = 100

	cookieHeader = "! Extended ORPort Auth Cookie !\n"
	cookieSize   = 32
	nonceSize    = 32
)

// Dialed returns which of the two connections go to.
func (o ORPort) Dialed() *net.TCPAddr { return cmp.Or(o.Extended, o.Addr) }

func (o ORPort) String() string { return "tor's ORPort" }

// dial implements Backend. Only the Extended ORPort gets more than bytes.
func (o ORPort) dial(client net.Addr, transport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	dialer := net.Dialer{LocalAddr: o.LocalAddr}
	if o.Extended == nil {
		return dialer.DialContext(ctx, "tcp", o.Addr.String())
	}
	// tor writes a new one when it starts, which may be after this program.
	cookie, err := readCookie(o.CookieFile)
	if err != nil {
		return nil, err
	}
	conn, err := dialer.DialContext(ctx, "tcp", o.Extended.String())
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	err = conn.SetDeadline(deadline)
	if err == nil {
		err = authenticate(conn, cookie)
	}
	if err == nil {
		err = introduce(conn, client, transport)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // it has carried nothing
		return nil, fmt.Errorf("Extended ORPort: %w", err)
	}
	return conn, nil
}

// readCookie reads the file of ext-orport-spec 2.1.2.
func readCookie(file string) ([]byte, error) {
	text, err := userfile.Read(file, int64(len(cookieHeader)+cookieSize))
	if err != nil && !errors.Is(err, userfile.ErrTooLarge) {
		return nil, fmt.Errorf("Extended ORPort: its cookie: %w", err)
	}
	cookie, ok := bytes.CutPrefix(text, []byte(cookieHeader))
	if !ok || len(cookie) != cookieSize {
		return nil, errors.New("Extended ORPort: its cookie file is malformed")
	}
	return cookie, nil
}

// authenticate proves to tor that the cookie is known, and has tor prove the same
// (ext-orport-spec 2.1.3).
func authenticate(conn net.Conn, cookie []byte) error {
	offered, err := readAuthTypes(conn)
	if err != nil {
		return err
	}
	if !bytes.Contains(offered, []byte{authSafeCookie}) {
		_, err := conn.Write([]byte{authNone})
		return errors.Join(errors.New("it offers no authentication that is known here"), err)
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	if _, err := conn.Write(append([]byte{authSafeCookie}, nonce...)); err != nil {
		return err
	}
	var answer [sha256.Size + nonceSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	hash := func(direction string) []byte {
		h := hmac.New(sha256.New, cookie)
		io.WriteString(h, "ExtORPort authentication "+direction+" hash")
		h.Write(nonce)
		h.Write(answer[sha256.Size:])
		return h.Sum(nil)
	}
	if !hmac.Equal(answer[:sha256.Size], hash("server-to-client")) {
		return errors.New("it does not know the cookie")
	}
	if _, err := conn.Write(hash("client-to-server")); err != nil {
		return err
	}
	var status [1]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		return err
	}
	if status[0] != authSucceeded {
		return errors.New("it refused the authentication")
	}
	return nil
}

// readAuthTypes reads what tor offers, up to the end of the list.
func readAuthTypes(conn net.Conn) (offered []byte, err error) {
	for len(offered) < 256 {
		var kind [1]byte
		if _, err := io.ReadFull(conn, kind[:]); err != nil {
			return nil, err
		}
		if kind[0] == authNone {
			return offered, nil
		}
		offered = append(offered, kind[0])
	}
	return nil, errors.New("its list of authentications does not end")
}

// introduce sends USERADDR, TRANSPORT and DONE, and waits for OKAY or DENY
// (ext-orport-spec 3).
func introduce(conn net.Conn, client net.Addr, transport string) error {
	var commands []byte
	add := func(command uint16, body string) {
		commands = binary.BigEndian.AppendUint16(commands, command)
		commands = binary.BigEndian.AppendUint16(commands, uint16(len(body)))
		commands = append(commands, body...)
	}
	// Callers that share a connection need not have an address.
	if addr, err := netip.ParseAddrPort(client.String()); err == nil {
		add(commandUserAddr, netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port()).String())
	}
	add(commandTransport, transport)
	add(commandDone, "")
	if _, err := conn.Write(commands); err != nil {
		return err
	}
	for range maxReplies {
		var head struct{ Command, Length uint16 }
		if err := binary.Read(conn, binary.BigEndian, &head); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(head.Length)); err != nil {
			return err
		}
		switch head.Command {
		case replyOkay:
			return nil
		case replyDeny:
			return errors.New("it denies this client for a while")
		}
		// What it does not know a proxy must ignore.
	}
	return fmt.Errorf("it has sent %d replies, and none that is known", maxReplies)
}
