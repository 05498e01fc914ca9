package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/internal/publish"
	"waterproxy/internal/release"
	"waterproxy/transport/testmodules"
)

// The tests in this file bring modules to processes by a repository that the executable
// makes, and that web servers serve which know nothing of it.

// ferry is a transport that only repositories have.
const ferry = "ferry"

// road is a repository that 2 of 3 keys sign.
type road struct {
	t    *testing.T
	dir  string // which web servers serve
	root string // what users have got from its publisher
	base string // for all else
}

func newRoad(t *testing.T) *road {
	t.Helper()
	base := t.TempDir()
	r := &road{t, filepath.Join(base, "repository"), filepath.Join(base, "root.json"), base}
	writeFile(t, filepath.Join(base, "passphrase"), nil)
	r.publish("init", "-threshold", "2", "-keys", "3", "-key-dir", r.file("keys"), "-passphrase-file", r.file("passphrase"), r.dir)
	root, err := os.ReadFile(filepath.Join(r.dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, r.root, root)
	return r
}

func (r *road) file(name string) string { return filepath.Join(r.base, name) }

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *road) publish(args ...string) {
	r.t.Helper()
	output(r.t, 0, append([]string{"publish"}, args...)...)
}

// output runs a subcommand of ours that has to end with a status, and returns what it says.
func output(t *testing.T, status int, args ...string) string {
	t.Helper()
	text, err := exec.Command(waterproxy(t), args...).CombinedOutput()
	if got := exitStatus(err); got != status {
		t.Fatalf("%q: exit status %d, want %d: %v\n%s", args, got, status, err, text)
	}
	return string(text)
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	} else if err != nil {
		return -1
	}
	return 0
}

// add stages a version and returns its SHA-256.
func (r *road) add(version string, wasm []byte) (sum string) {
	r.t.Helper()
	file := r.file("module.wasm")
	writeFile(r.t, file, wasm)
	r.publish("add", r.dir, ferry, version, file)
	return fmt.Sprintf("%x", sha256.Sum256(wasm))
}

// addBlindly stages a version as a publisher does who tries nothing.
func (r *road) addBlindly(version string, wasm []byte) {
	r.t.Helper()
	if err := publish.Open(r.dir).Add(release.Release{Transport: ferry, Version: version}, wasm, time.Now().UTC().Truncate(time.Second), time.Hour); err != nil {
		r.t.Fatal(err)
	}
}

// sign publishes what is staged.
func (r *road) sign() {
	r.t.Helper()
	r.publish("sign", "-passphrase-file", r.file("passphrase"), r.dir, r.file("keys/1.key"), r.file("keys/3.key"))
}

// withVersion returns a module that does the same and has another SHA-256, by a custom
// section.
func withVersion(wasm []byte, n int) []byte {
	section := fmt.Appendf([]byte{7}, "version%d", n) // a name of seven bytes
	return append(append(bytes.Clone(wasm), 0, byte(len(section))), section...)
}

// plainVersion returns a version of a module that passes everything on as it is, and is
// compiled at once.
func plainVersion(t *testing.T, n int) []byte {
	t.Helper()
	return withVersion(testmodules.Load(t, "posix_v1"), n)
}

// startManaged starts a process as tor does, which ends with the test.
func startManaged(t *testing.T, variables ptproc.Variables, args ...string) *pttest.Process {
	t.Helper()
	return startProgram(t, waterproxy(t), variables, args...)
}

func startProgram(t *testing.T, program string, variables ptproc.Variables, args ...string) *pttest.Process {
	t.Helper()
	p := pttest.New(t, variables, append([]string{program}, args...)...)
	p.Begin()
	t.Cleanup(func() { end(t, p) })
	return p
}

// uses waits until a process has said so many times that new connections use a version.
func uses(p *pttest.Process, sum string, times int) {
	p.T.Helper()
	said(p, "new connections use the new version.* sha256="+sum, times)
}

// said waits until a process has written so many lines that match.
func said(p *pttest.Process, pattern string, times int) {
	p.T.Helper()
	expression := regexp.MustCompile(pattern)
	for end := time.Now().Add(pttest.Patience); ; <-pause() {
		n := 0
		for _, line := range p.Stdout.All() {
			if expression.MatchString(line) {
				n++
			}
		}
		if n >= times {
			return
		}
		if time.Now().After(end) {
			p.T.Fatalf("%d lines match %q, want %d", n, pattern, times)
		}
	}
}

// line is a connection through a transport.
type line struct{ near, far net.Conn }

// newLine makes a connection from a client to a bridge, behind which is a listener.
func newLine(t *testing.T, socks, bridge string, behind net.Listener) line {
	t.Helper()
	near := pttest.Connect(t, socks, bridge)
	l := line{near, pttest.Accept(t, behind)}
	pttest.Echo(t, l.near, l.far)
	return l
}

// certificate makes a certificate authority and a certificate of it, and returns the file
// of the authority, and those of the certificate and of its key.
func certificate(t *testing.T, names ...string) (authority, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	save := func(name, kind string, content []byte) string {
		file := filepath.Join(dir, name)
		writeFile(t, file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
		return file
	}
	make := func(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parentKey == nil {
			parentKey = k
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		return der, k
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caText, caKey := make(ca, ca, nil)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	leafText, leafKey := make(leaf, ca, caKey)
	keyText, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return save("ca.pem", "CERTIFICATE", caText), save("cert.pem", "CERTIFICATE", leafText), save("key.pem", "PRIVATE KEY", keyText)
}

// startNginx serves a folder at an address over HTTPS, by the names of its certificate. It
// returns the file of the authority behind that. As root it would become another user, who
// may not exist.
func startNginx(t *testing.T, dir, address string, names ...string) (authority string) {
	t.Helper()
	authority, cert, key := certificate(t, names...)
	runNginx(t, fmt.Sprintf(`	server {
		listen %s ssl http2;
		ssl_certificate %s;
		ssl_certificate_key %s;
		root %s;
	}
`, address, cert, key, dir), address)
	return authority
}

// runNginx runs nginx with the part of its configuration that is about servers, until the
// test is over.
func runNginx(t *testing.T, servers, address string) {
	t.Helper()
	base := t.TempDir()
	config := filepath.Join(base, "nginx.conf")
	var temporary strings.Builder
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "\t%s_temp_path %s;\n", what, filepath.Join(base, what))
	}
	writeFile(t, config, fmt.Appendf(nil, `daemon off;
master_process off;
user root root;
error_log stderr;
pid %s;
events {}
http {
	access_log off;
	log_not_found off;
%s%s}
`, filepath.Join(base, "pid"), temporary.String(), servers))
	startDaemon(t, address, "nginx", "-e", "stderr", "-p", base, "-c", config)
}
