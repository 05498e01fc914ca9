package main

import (
	"context"
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
	"net"
	"os"
	"path/filepath"
	"time"
)

// frontName is the name in the certificate of a front, which no DNS knows.
const frontName = "bridge.example"

// front is nginx in front of the servers of all contestants that are reached by HTTPS: it
// ends TLS, and passes a request for /PORT on to that port of the loopback interface. So
// all of them have the same certificate, ciphers and buffers.
type front struct {
	process *process
	address string // HOST:PORT where it listens
	pin     string // of its certificate, as a bridge line of webtunnel has it
}

// frontConfig is nginx's configuration: directory, port. It holds 10,000 connections, with
// two descriptors each, for as long as a test lets them idle.
const frontConfig = `daemon off;
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
		server_name ` + frontName + `;
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

// startFront starts nginx with a new certificate, and its files in a directory.
func startFront(ctx context.Context, dir string, l launch) (*front, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	certificate, err := writeCertificate(dir)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the front: %w", err)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, frontConfig, dir, ports[0]), 0o600); err != nil {
		return nil, err
	}
	p, _, err := launchListener(ctx, "nginx -e stderr -c "+config, ports[0], l)
	if err != nil {
		return nil, fmt.Errorf("the front (Debian package nginx-light): %w", err)
	}
	pin := sha256.Sum256(certificate)
	return &front{p, net.JoinHostPort("127.0.0.1", ports[0]), base64.StdEncoding.EncodeToString(pin[:])}, nil
}

// stop ends nginx.
func (f *front) stop() error {
	_, err := f.process.stop()
	return err
}

// writeCertificate writes a certificate as the files certificate.pem and key.pem, and
// returns it. Its key is for ECDSA with P-256, as those of most web servers are today.
func writeCertificate(dir string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: frontName},
		DNSNames:     []string{frontName},
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
		os.WriteFile(filepath.Join(dir, "certificate.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
