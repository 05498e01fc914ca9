package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	tls "github.com/refraction-networking/utls"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

type x509Certificate = x509.Certificate

// Errors in the operator's words. They have no name and no value in them.
var (
	errPin      = errors.New("the server's certificate is not the one that cert= is for: the bridge has a new one, or somebody else answers in its place")
	errExpired  = errors.New("the server's certificate has expired or is not valid yet: the bridge has to renew it, or the clock here is wrong")
	errName     = errors.New("the server's certificate is for another name than the one in the bridge line: the bridge line is wrong, or somebody else answers in the bridge's place")
	errUnknown  = errors.New("no known authority vouches for the server's certificate: a bridge with one of its own has cert= in its bridge line, and without that somebody else may answer in its place")
	errNoCerts  = errors.New("the server sent no certificate")
	errVersion  = errors.New("the server speaks no TLS newer than 1.1")
	errProtocol = errors.New("the server insists on another protocol than HTTP/1.1 within TLS")
	errNoTLS    = errors.New("the server does not speak TLS: the port of the url is not the one of a web server, or the url should begin with http://")
	errEnd      = errors.New("the server ended the connection during the handshake: it may not know the name that it was asked for, or a censor cut the connection")
	errSlow     = errors.New("the server takes too long to answer")
)

// verifyCertificates checks a server's certificates, which came in this order, against the
// pin of the bridge line or, where it has none, the authorities that Mozilla trusts. name is
// the one that the server was asked for.
func (b *bridge) verifyCertificates(raw [][]byte, name string) error {
	if len(raw) == 0 {
		return errNoCerts
	}
	if b.pin != nil {
		if h := hashChain(raw); subtle.ConstantTimeCompare(h[:], b.pin) == 0 {
			return errPin
		}
		return nil
	}
	return b.verifyBy(authorities(), raw, name)
}

// verifyBy checks the certificates against authorities.
func (b *bridge) verifyBy(roots *x509.CertPool, raw [][]byte, name string) error {
	if b.verify != "" {
		name = b.verify
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return errors.New("the server's certificate is malformed")
	}
	others := x509.NewCertPool()
	for _, r := range raw[1:] {
		if c, err := x509.ParseCertificate(r); err == nil { // one that is malformed vouches for nothing
			others.AddCert(c)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Intermediates: others, Roots: roots})
	return describeCertificate(err)
}

// hashChain is the hash that cert= is: of the first certificate, and from there on of the hash
// so far and that of the next one.
func hashChain(raw [][]byte) (h [sha256.Size]byte) {
	for i, r := range raw {
		next := sha256.Sum256(r)
		if i == 0 {
			h = next
		} else {
			h = sha256.Sum256(append(h[:], next[:]...))
		}
	}
	return h
}

// authorities are those that Mozilla trusts. They are read when a connection first needs
// them; most bridge lines with a certificate of their own never do.
var authorities = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // Go has become stricter than the list: this one vouches for nothing
		}
		if root.Constraint == nil {
			pool.AddCert(c)
		} else {
			pool.AddCertWithConstraint(c, root.Constraint)
		}
	}
	return pool
})

// describeCertificate puts an error of a certificate into words without names.
func describeCertificate(err error) error {
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errExpired
	case errors.As(err, &invalid):
		return fmt.Errorf("the server's certificate cannot be used (reason %d of crypto/x509)", invalid.Reason)
	case errors.As(err, new(x509.HostnameError)):
		return errName
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return errUnknown
	}
	return errors.New("the server's certificate cannot be verified")
}

// describeTLS puts an error of the handshake into the operator's words.
func describeTLS(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return errNoTLS
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errEnd
	}
	return err
}
