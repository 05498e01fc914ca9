// Package webfront makes what nginx needs to stand before servers that are reached by HTTPS:
// its configuration and a certificate. It is for development: benchmarks, and reports on
// transports that look like the web.
package webfront

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Name is the name in the certificate, which no DNS knows.
const Name = "bridge.example"

// Files are in one directory.
type Files struct {
	Config           string // for nginx -e stderr -c
	Certificate, Key string // PEM
	Pin              string // of the certificate, as a bridge line of webtunnel has it
}

// nginxConfig is nginx's configuration: directory, port. It holds 10,000 connections, with
// two descriptors each, for as long as a test lets them idle.
const nginxConfig = `daemon off;
pid %[1]s/nginx.pid;
worker_processes auto;
worker_rlimit_nofile 40000;
events { worker_connections 20000; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:%[2]s ssl;
		server_name ` + Name + `;
		ssl_certificate %[1]s/certificate.pem;
		ssl_certificate_key %[1]s/key.pem;
		ssl_protocols TLSv1.2 TLSv1.3;
		location ~ ^/(\d+)$ {
			proxy_pass http://127.0.0.1:$1;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_buffering off;
			proxy_read_timeout 1h;
		}
	}
}
`

// Write writes the files for an nginx that listens at a port of 127.0.0.1, ends TLS, and passes
// a request for /PORT on to that port of the loopback interface. dir is made if need be.
func Write(dir, port string) (*Files, error) {
	pin, err := WriteCertificate(dir)
	if err != nil {
		return nil, err
	}
	f := &Files{
		Config:      filepath.Join(dir, "nginx.conf"),
		Certificate: filepath.Join(dir, certificateFile),
		Key:         filepath.Join(dir, keyFile),
		Pin:         pin,
	}
	return f, os.WriteFile(f.Config, fmt.Appendf(nil, nginxConfig, dir, port), 0o600)
}

// Files of a certificate, PEM.
const (
	certificateFile = "certificate.pem"
	keyFile         = "key.pem"
)

// WriteCertificate writes a new certificate and its key to a directory, which is made if need
// be, as the files certificate.pem and key.pem. It returns the certificate's pin, as a bridge
// line of webtunnel has it.
func WriteCertificate(dir string) (pin string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	certificate, err := writeCertificate(dir)
	if err != nil {
		return "", fmt.Errorf("make a certificate: %w", err)
	}
	return PinOf(certificate), nil
}

// PinOf returns the pin of a certificate (DER), as a bridge line of webtunnel has it.
func PinOf(certificate []byte) string {
	pin := sha256.Sum256(certificate)
	return base64.StdEncoding.EncodeToString(pin[:])
}

// writeCertificate writes a certificate and its key, which is for ECDSA with P-256 as those of
// most web servers are today, and returns the certificate (DER).
func writeCertificate(dir string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: Name},
		DNSNames:     []string{Name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 0, 30),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return certificate, errors.Join(
		os.WriteFile(filepath.Join(dir, certificateFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600),
		os.WriteFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
