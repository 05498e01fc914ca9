package examine

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// The certificates with which payloads are encrypted are like those in use, in number and
// length: what they weigh is what an observer of TLS in TLS looks at.

// linkCertificate is as a relay's for the link to its clients: one, self-signed, RSA.
func linkCertificate() (*tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := certificate("www.khdwqmbkeopt.net", nil, key, nil, nil)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// siteNames is how many names the certificate of a web site has here; with the two of the
// authority, the chain has some 4 KB, as most have.
const siteNames = 60

// siteCertificate is as a web site's: its own, and two of the authority.
func siteCertificate() (*tls.Certificate, error) {
	var chain [][]byte
	var issuer *x509.Certificate
	var issuerKey crypto.Signer
	for _, name := range []string{"Example Root X", "Example Authority R11"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		der, err := certificate(name, nil, key, issuer, issuerKey)
		if err != nil {
			return nil, err
		}
		if issuer, err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
		issuerKey = key
		chain = append([][]byte{der}, chain...)
	}
	var names []string
	for i := range siteNames {
		names = append(names, fmt.Sprintf("host-%d.region-%d.example.com", i, i%7))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := certificate("example.com", names, key, issuer, issuerKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key}, nil
}

// certificate makes one that its issuer has signed, or itself.
func certificate(name string, hosts []string, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(90 * 24 * time.Hour),
		DNSNames:     hosts,
		IsCA:         hosts == nil,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,

		BasicConstraintsValid: true,
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	return x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
}
