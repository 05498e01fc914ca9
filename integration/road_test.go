package integration

import (
	"archive/tar"
	"bytes"
	"context"
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
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
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
%s	server {
		listen %s ssl http2;
		ssl_certificate %s;
		ssl_certificate_key %s;
		root %s;
	}
}
`, filepath.Join(base, "pid"), temporary.String(), address, cert, key, dir))
	startDaemon(t, address, "nginx", "-e", "stderr", "-p", base, "-c", config)
	return authority
}

// A transport that only a repository has is got, used and replaced, and connections go on.
func TestRoad(t *testing.T) {
	t.Parallel()
	wasm, err := os.ReadFile(builtFile(t, filepath.Join("..", "modules", "built", "plain.wasm")))
	if err != nil {
		t.Fatal(err)
	}
	r := newRoad(t)
	r.add("1.0", withVersion(wasm, 1))
	r.sign()
	address := net.JoinHostPort(freeAddress(t))
	authority := startNginx(t, r.dir, address, "127.0.0.1")
	flags := []string{"-from", "https://" + address, "-root", r.root, "-every", "10s"}
	trust := ptproc.Variables{"SSL_CERT_FILE": authority}

	orPort := pttest.Listen(t)
	server := startManaged(t, ptproc.Server(t.TempDir(), orPort.Addr().String(), ferry).With(trust), flags...)
	client := startManaged(t, ptproc.Client(t.TempDir(), ferry).With(trust), flags...)
	socks, bridge := client.Address(ferry), server.Address(ferry)
	var old []line
	for range 100 {
		old = append(old, newLine(t, socks, bridge, orPort))
	}

	sum := r.add("2.0", withVersion(wasm, 2))
	r.sign()
	signed := time.Now()
	uses(server, sum, 1)
	uses(client, sum, 1)
	newLine(t, socks, bridge, orPort)
	t.Logf("the first connection through the new version was there %.1f s after its last signature", time.Since(signed).Seconds())
	for _, l := range old {
		pttest.Echo(t, l.near, l.far)
	}
}

// traffic is what went over one connection to a web server.
type traffic struct {
	files []string // that were asked for
	bytes int64    // in both directions
}

// countingConn counts what goes over a connection.
type countingConn struct {
	net.Conn
	bytes atomic.Int64
	files []string
	ended chan<- traffic
	over  atomic.Bool
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countingConn) Close() error {
	if !c.over.Swap(true) {
		c.ended <- traffic{c.files, c.bytes.Load()}
	}
	return c.Conn.Close()
}

type countingListener struct {
	net.Listener
	ended chan<- traffic
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: c, ended: l.ended}, nil
}

type connKey struct{}

// startCounting serves a folder over HTTP, and sends what went over each connection once
// it has ended.
func startCounting(t *testing.T, dir string) (url string, ended <-chan traffic) {
	t.Helper()
	all := make(chan traffic, 1000)
	l := pttest.Listen(t)
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			c := q.Context().Value(connKey{}).(*countingConn)
			c.files = append(c.files, q.URL.Path)
			files.ServeHTTP(w, q)
		}),
	}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(&countingListener{l, all}) // it is closed
		close(done)
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "http://" + l.Addr().String(), all
}

func nextTraffic(t *testing.T, ended <-chan traffic) traffic {
	t.Helper()
	select {
	case got := <-ended:
		return got
	case <-time.After(pttest.Patience):
		t.Fatal("nobody asks")
		return traffic{}
	}
}

// silentBytes is what an update of nothing takes at most, in both directions.
const silentBytes = 2000

func checkSilent(t *testing.T, got traffic) {
	t.Helper()
	if !slices.Equal(got.files, []string{"/timestamp.json"}) || got.bytes > silentBytes {
		t.Errorf("an update of nothing asks for %q and takes %d bytes, want timestamp.json alone and no more than %d", got.files, got.bytes, silentBytes)
	}
}

// An update of nothing is one request and 2 kB.
func TestRoadSilent(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	url, ended := startCounting(t, r.dir)
	// full waits for a look that fetches a module, all over one connection.
	full := func() {
		t.Helper()
		for {
			got := nextTraffic(t, ended)
			if slices.ContainsFunc(got.files, func(file string) bool { return strings.HasPrefix(file, "/targets/") }) {
				return
			}
			checkSilent(t, got)
		}
	}

	t.Run("subcommand", func(t *testing.T) {
		args := []string{"modules", "update", "-state", t.TempDir(), "-from", url, "-root", r.root}
		output(t, 0, args...)
		full()
		output(t, 0, args...)
		got := nextTraffic(t, ended)
		checkSilent(t, got)
		t.Logf("%d bytes", got.bytes)
	})
	t.Run("process", func(t *testing.T) {
		client := startManaged(t, ptproc.Client(t.TempDir(), ferry), "-from", url, "-root", r.root, "-every", "1s")
		client.Address(ferry)
		full()
		for range 3 {
			checkSilent(t, nextTraffic(t, ended))
		}
		r.add("2.0", plainVersion(t, 2))
		r.sign()
		full()
		checkSilent(t, nextTraffic(t, ended))
	})
}

// Of two mirrors one is dead; SIGHUP brings news at once; what does not work is refused;
// there is a way back.
func TestRoadTurns(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	first := r.add("1.0", plainVersion(t, 1))
	r.sign()
	url, _ := startCounting(t, r.dir)
	state := t.TempDir()
	client := startManaged(t, ptproc.Client(state, ferry), "-from", "http://"+pttest.DeadAddress(t), "-from", url, "-root", r.root, "-every", "0")
	socks, behind := client.Address(ferry), pttest.Listen(t)
	var lines []line
	// check checks that all connections there have been go on, and adds one.
	check := func(used string) {
		t.Helper()
		lines = append(lines, newLine(t, socks, behind.Addr().String(), behind))
		for _, l := range lines {
			pttest.Echo(t, l.near, l.far)
		}
		if list := output(t, 0, "modules", "-state", state); !regexp.MustCompile(`(?m)^` + ferry + ` .* ` + used + ` .* in use(, pinned)?$`).MatchString(list) {
			t.Errorf("%s is not in use:\n%s", used, list)
		}
	}
	check(first)

	second := r.add("2.0", plainVersion(t, 2))
	r.sign()
	client.Send(syscall.SIGHUP)
	uses(client, second, 1)
	check(second)

	refused := 0
	for version, bad := range map[string]string{"2.1": "evil_init_eperm_v1", "2.2": "probe_test_bad_v1"} {
		wasm := testmodules.Load(t, bad)
		file := r.file(bad)
		writeFile(t, file, wasm)
		if bad == "probe_test_bad_v1" {
			if said := output(t, 1, "publish", "add", r.dir, ferry, version, file); !strings.Contains(said, "self_test") {
				t.Errorf("publish add says %q", said)
			}
		}
		r.addBlindly(version, wasm)
		r.sign()
		client.Send(syscall.SIGHUP)
		refused++
		said(client, "a new version cannot be used; the old one stays", refused)
		check(second)
		if list := output(t, 0, "modules", "-state", state); !regexp.MustCompile(`(?m)^` + ferry + ` +` + version + ` .* refused: `).MatchString(list) {
			t.Errorf("%s is not refused:\n%s", version, list)
		}
	}

	third := r.add("3.0", plainVersion(t, 3))
	r.sign()
	client.Send(syscall.SIGHUP)
	uses(client, third, 1)
	check(third)

	output(t, 0, "modules", "rollback", "-state", state, ferry)
	client.Send(syscall.SIGHUP)
	uses(client, second, 2)
	check(second)
	output(t, 0, "modules", "unpin", "-state", state, ferry)
	client.Send(syscall.SIGHUP)
	uses(client, third, 2)
	check(third)
}

// What somebody hands over in a file needs no network.
func TestRoadImport(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	state := t.TempDir()
	handed := filepath.Join(t.TempDir(), "modules.tar")
	pack(t, handed, r.dir)
	output(t, 0, "modules", "import", "-state", state, "-root", r.root, handed)
	client := startManaged(t, ptproc.Client(state, ferry), "-from", "http://"+pttest.DeadAddress(t), "-root", r.root, "-every", "0")
	socks, behind := client.Address(ferry), pttest.Listen(t)
	client.Line("no news of the repository can be had.*connection refused")
	old := newLine(t, socks, behind.Addr().String(), behind)

	// The next file is for the same repository, so its keys are known.
	sum := r.add("2.0", plainVersion(t, 2))
	r.sign()
	pack(t, handed, r.dir)
	output(t, 0, "modules", "import", "-state", state, handed)
	client.Send(syscall.SIGHUP)
	uses(client, sum, 1)
	newLine(t, socks, behind.Addr().String(), behind)
	pttest.Echo(t, old.near, old.far)

	// The file itself can be looked at, and another one put in its place.
	looks := startManaged(t, ptproc.Client(t.TempDir(), ferry), "-from", "file://"+handed, "-root", r.root, "-every", "0")
	newLine(t, looks.Address(ferry), behind.Addr().String(), behind)
	sum = r.add("3.0", plainVersion(t, 3))
	r.sign()
	pack(t, handed+".new", r.dir)
	if err := os.Rename(handed+".new", handed); err != nil {
		t.Fatal(err)
	}
	looks.Send(syscall.SIGHUP)
	uses(looks, sum, 1)

	// A file that has been changed on the way brings nothing.
	text, err := os.ReadFile(handed)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, handed, bytes.ReplaceAll(text, []byte(`"version":"3.0"`), []byte(`"version":"3.1"`)))
	output(t, 1, "modules", "import", "-state", t.TempDir(), "-root", r.root, handed)
}

// pack makes a tar file of a folder.
func pack(t *testing.T, file, dir string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, b.Bytes())
}
