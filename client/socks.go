package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
)

// socksTimeout bounds a request, as goptlib does for tor's.
const socksTimeout = 5 * time.Second

// What RFC 1928 and RFC 1929 call these.
const (
	socksVersion      = 5
	socksNoAuth       = 0
	socksPassword     = 2
	socksNoMethod     = 0xff
	socksConnect      = 1
	socksIPv4         = 1
	socksName         = 3
	socksIPv6         = 4
	passwordVersion   = 1
	passwordIsCorrect = 0
)

// socksRequest is a SOCKS5 request of an application other than tor. goptlib's
// listener takes user names and passwords for arguments of a bridge line; here, any
// will do, because applications use them to keep connections apart.
type socksRequest struct{ conn net.Conn }

// readSOCKS reads a request, for which conn has a deadline. The application's
// destination is left out: only the
// bridge decides that.
func readSOCKS(conn net.Conn) (r socksRequest, err error) {
	r.conn = conn
	if err := r.negotiate(); err != nil {
		return r, err
	}
	if err := r.read(); err != nil {
		return r, err
	}
	return r, conn.SetDeadline(time.Time{})
}

// negotiate agrees on a method.
func (r socksRequest) negotiate() error {
	head, err := r.take(2)
	if err != nil {
		return err
	}
	if head[0] != socksVersion {
		return fmt.Errorf("version %d of SOCKS", head[0])
	}
	methods, err := r.take(int(head[1]))
	if err != nil {
		return err
	}
	method := byte(socksNoMethod)
	for _, m := range methods {
		if m == socksNoAuth || m == socksPassword && method == socksNoMethod {
			method = m
		}
	}
	if _, err := r.conn.Write([]byte{socksVersion, method}); err != nil {
		return err
	}
	switch method {
	case socksNoMethod:
		return errors.New("no method of authentication that we know")
	case socksPassword:
		return r.readPassword()
	}
	return nil
}

// readPassword accepts any user name and password.
func (r socksRequest) readPassword() error {
	if _, err := r.take(1); err != nil {
		return err
	}
	for range 2 {
		size, err := r.take(1)
		if err != nil {
			return err
		}
		if _, err := r.take(int(size[0])); err != nil {
			return err
		}
	}
	_, err := r.conn.Write([]byte{passwordVersion, passwordIsCorrect})
	return err
}

// read reads what is to be done.
func (r socksRequest) read() error {
	head, err := r.take(4)
	if err != nil {
		return err
	}
	size := 0
	switch head[3] {
	case socksIPv4:
		size = net.IPv4len
	case socksIPv6:
		size = net.IPv6len
	case socksName:
		n, err := r.take(1)
		if err != nil {
			return err
		}
		size = int(n[0])
	default:
		return errors.Join(errors.New("an address of a type that we don't know"), r.RejectReason(pt.SocksRepAddressNotSupported))
	}
	if _, err := r.take(size + 2); err != nil { // with the port
		return err
	}
	if head[1] != socksConnect {
		return errors.Join(errors.New("a command that we don't know"), r.RejectReason(pt.SocksRepCommandNotSupported))
	}
	return nil
}

func (r socksRequest) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r.conn, b)
	return b, err
}

// Grant implements answer.
func (r socksRequest) Grant(*net.TCPAddr) error { return r.RejectReason(0) }

// RejectReason implements answer.
func (r socksRequest) RejectReason(code byte) error {
	_, err := r.conn.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err
}
