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

	"waterproxy/internal/ptproc"
	"waterproxy/transport"
)

// frontKind is what ends TLS for a pair.
type frontKind int

const (
	noFront  frontKind = iota // nothing: there is no TLS
	byNginx                   // nginx, which all such contestants of a run have in common
	byItself                  // the server, which is waterproxy
)

// frontName is the name in the certificate of a front, which no DNS knows.
const frontName = "bridge.example"

// front is nginx in front of the servers of all contestants that are reached by HTTPS: it
// ends TLS, and passes a request for /PORT on to that port of the loopback interface. So
// all of them have the same certificate, ciphers and buffers.
type front struct {
	process *process
	address string // HOST:PORT where it listens
	pin     string // of its certificate
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
	return &front{p, net.JoinHostPort("127.0.0.1", ports[0]), pinOf(certificate)}, nil
}

// stop ends nginx.
func (f *front) stop() error {
	_, err := f.process.stop()
	return err
}

// behind is what a pair needs to know of what ends TLS for it.
type behind struct {
	serverFlags            []string
	variables              ptproc.Variables // of the server
	serverArgs, clientArgs transport.Args
}

// behind returns what makes a pair use its front.
func (p *pairSpec) behind(ctx context.Context, l launch) (b behind, err error) {
	if p.front == noFront {
		return b, nil
	}
	ports, err := freePorts(1) // it has to be known before the server starts
	if err != nil {
		return b, err
	}
	port := ports[0]
	address, pin := net.JoinHostPort("127.0.0.1", port), ""
	if p.front == byNginx {
		f, err := l.front(ctx)
		if err != nil {
			return b, err
		}
		address, pin = f.address, f.pin
	} else {
		if b.serverFlags, pin, err = p.webServer(filepath.Join(l.state, "modules")); err != nil {
			return b, fmt.Errorf("the settings of the web server: %w", err)
		}
	}
	b.variables = ptproc.Variables{"TOR_PT_SERVER_BINDADDR": p.transport + "-127.0.0.1:" + port}
	b.serverArgs = transport.Args{"url": {"https://" + frontName + "/" + port}}
	b.clientArgs = transport.Args{"addr": {address}, "cert": {pin}}
	return b, nil
}

// webServer writes the settings by which waterproxy is its own web server to a directory. It
// returns the flags for it and the pin of its new certificate.
func (p *pairSpec) webServer(dir string) (flags []string, pin string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	certificate, err := writeCertificate(dir)
	if err != nil {
		return nil, "", err
	}
	const settings = "[web]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n"
	return []string{"-modules", dir}, pinOf(certificate), os.WriteFile(filepath.Join(dir, p.transport+".toml"), []byte(settings), 0o600)
}

// pinOf returns the pin of a certificate, as a bridge line of webtunnel has it.
func pinOf(certificate []byte) string {
	pin := sha256.Sum256(certificate)
	return base64.StdEncoding.EncodeToString(pin[:])
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
