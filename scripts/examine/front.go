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
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// front is an nginx before a server of WebTunnel, and what a server needs that is its own.
type front struct {
	address  string // of nginx
	backend  string // to which it passes on the secret path
	settings string // a directory with webtunnel.toml
	pin      string // of the certificate, as in a bridge line

	nginx *exec.Cmd
}

// host is the name in the certificate, path the secret one.
const (
	host = "www.example.com"
	path = "/secret-path"
)

// nginxPatience is how long nginx may take until it listens.
const nginxPatience = 20 * time.Second

// startFront starts nginx with a certificate of its own, in a folder.
func startFront(ctx context.Context, dir string) (*front, error) {
	f := &front{settings: filepath.Join(dir, "settings")}
	var err error
	if f.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if f.backend, err = freeAddress(); err != nil {
		return nil, err
	}
	site := filepath.Join(f.settings, "site")
	if err := os.MkdirAll(site, 0o755); err != nil {
		return nil, err
	}
	der, key, err := certificate()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	f.pin = base64.StdEncoding.EncodeToString(sum[:])
	for name, text := range map[string]string{
		"site/index.html": "<!DOCTYPE html>\n<title>Example</title>\n<p>An example.\n",
		"webtunnel.toml":  "[web]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nsite = \"site\"\n",
		"cert.pem":        string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key.pem":         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"nginx.conf":      f.configuration(site),
	} {
		if err := os.WriteFile(filepath.Join(f.settings, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	f.nginx = exec.CommandContext(ctx, "nginx", "-p", dir, "-c", filepath.Join(f.settings, "nginx.conf"))
	f.nginx.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	f.nginx.Cancel = func() error { return f.nginx.Process.Signal(syscall.SIGTERM) }
	f.nginx.Stderr = os.Stderr
	if err := f.nginx.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(nginxPatience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", f.address)
		if err == nil {
			return f, c.Close()
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("nginx does not listen: %w", err), f.close())
		}
	}
}

func (f *front) configuration(site string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 16384; }
worker_rlimit_nofile 40000;
http {
	access_log off;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	server {
		listen %s ssl;
		server_name %s;
		ssl_certificate cert.pem;
		ssl_certificate_key key.pem;
		root %s;
		location = %s {
			proxy_pass http://%s;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_buffering off;
			proxy_read_timeout 600s;
		}
	}
}
`, f.address, host, site, path, f.backend)
}

func (f *front) close() error {
	if err := f.nginx.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = f.nginx.Wait() // it has been told to end
	return nil
}

// absolute names a program so that it is found from any folder.
func (f *front) absolute(program string) string {
	if !strings.Contains(program, "/") {
		return program
	}
	path, err := filepath.Abs(program)
	if err != nil {
		return program // starting it says what is wrong
	}
	return path
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// certificate makes one that is self-signed, and its key.
func certificate() (der, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: host},
		DNSNames:     []string{host},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private); err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	return der, key, err
}
