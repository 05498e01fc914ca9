// Command tlswrap carries each connection in TLS 1.3 with a certificate that it makes
// at its start: crypto/tls, crypto/rand, time and deadlines as in any Go program.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"time"

	"waterproxy/watm"
)

type tlswrap struct{ config *tls.Config }

func (t *tlswrap) Start(*watm.Env) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"bridge"}}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	t.config = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		// The two ends do not know each other's certificates.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS13,
	}
	return nil
}

func (t *tlswrap) Client(ctx context.Context, conn watm.Conn, _ watm.Args) (net.Conn, error) {
	return handshake(ctx, conn, tls.Client(conn, t.config))
}

func (t *tlswrap) Server(ctx context.Context, conn watm.Conn) (net.Conn, error) {
	return handshake(ctx, conn, tls.Server(conn, t.config))
}

func handshake(ctx context.Context, conn net.Conn, c *tls.Conn) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, conn.SetDeadline(time.Time{})
}

func main() { watm.Run(&tlswrap{}) }
