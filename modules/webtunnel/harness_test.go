package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/watm"
)

// host is the one in the url of tests.
const host = "front.example"

// certificate makes a certificate for the host that nobody vouches for.
func certificate(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var ecdsaKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// pinOf is the argument cert for certificates.
func pinOf(c tls.Certificate) string {
	h := hashChain(c.Certificate)
	return base64.StdEncoding.EncodeToString(h[:])
}

// listen serves each connection by a goroutine, and returns a dial function that leads
// there, whatever the address.
func listen(t *testing.T, serve func(net.Conn)) dialFunc {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return func(ctx context.Context, _, _ string, _ bool) (watm.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		return conn.(*net.TCPConn), nil
	}
}

type dialFunc = func(ctx context.Context, network, address string, shared bool) (watm.Conn, error)

// bridgeArgs are those of a bridge line with a pin.
func bridgeArgs(c tls.Certificate, more ...string) watm.Args {
	args := watm.Args{"url": {"https://" + host + "/secret"}, "ver": {version}, "cert": {pinOf(c)}}
	for pair := range slices.Chunk(more, 2) {
		args[pair[0]] = []string{pair[1]}
	}
	return args
}

// within bounds a test's wait.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), pttest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// connect dials a bridge.
func connect(t *testing.T, client *webtunnel, args watm.Args, dial dialFunc) (watm.Conn, error) {
	t.Helper()
	conn, err := client.Dial(within(t), watm.NewRequest(args, "tcp", "[2001:db8::1]:443", dial))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(watm.Conn), nil
}
