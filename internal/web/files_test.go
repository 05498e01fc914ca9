package web

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/internal/settings"
)

// served returns the name in the certificate that a server shows.
func served(t *testing.T, f *Front) string {
	t.Helper()
	conn := tls.Client(pttest.Dial(t, f.Addr().String()), &tls.Config{InsecureSkipVerify: true})
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// awaitServed shakes hands until a certificate is shown.
func awaitServed(t *testing.T, f *Front, name string) {
	t.Helper()
	for end := time.Now().Add(pttest.Patience); served(t, f) != name; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the certificate of %s is not shown", name)
		}
	}
}

// touch gives a file another time, as another content has: file systems are not so exact.
func touch(t *testing.T, seconds int, names ...string) {
	t.Helper()
	for _, name := range names {
		at := time.Now().Add(time.Duration(seconds) * time.Second)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// A new certificate is used without anybody's doing; one that is not usable is not, and
// that is logged.
func TestCertificateChanges(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := pttest.WriteCertificate(t, dir, "first.example")
	var log records
	f := start(t, Config{Web: parse(t, filepath.Join(dir, "x.toml"), "certificate = 'chain.pem'\nkey = 'key.pem'"), Log: log.logger()}, usualTimes)
	if got := served(t, f); got != "first.example" {
		t.Fatalf("the certificate is that of %s", got)
	}
	if err := os.WriteFile(keyFile, []byte("half a ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(t, 1, keyFile)
	for end := time.Now().Add(pttest.Patience); !log.has("the new certificate cannot be used; the old one stays"); time.Sleep(10 * time.Millisecond) {
		if got := served(t, f); got != "first.example" {
			t.Fatalf("the certificate is that of %s", got)
		}
		if time.Now().After(end) {
			t.Fatal("a certificate that is not usable is not logged")
		}
	}
	pttest.WriteCertificate(t, dir, "second.example")
	touch(t, 2, certFile, keyFile)
	awaitServed(t, f, "second.example")
	if !log.has("new connections get the new certificate") {
		t.Error("the new certificate is not logged")
	}
}

// Reload takes other files, or leaves everything.
func TestReload(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	pttest.WriteCertificate(t, first, "first.example")
	pttest.WriteCertificate(t, second, "second.example")
	at := func(dir, text string) *settings.Web {
		return parse(t, filepath.Join(dir, "x.toml"), "certificate = 'chain.pem'\nkey = 'key.pem'\n"+text)
	}
	f := start(t, Config{Web: at(first, "")}, usualTimes)
	acme := parse(t, "x.toml", "acme-domains = ['a.example']\nacme-terms-agreed = true")
	for name, bad := range map[string]*settings.Web{
		"no table": nil, "no TLS": parse(t, "x.toml", ""), "ACME": acme, "no files": at(t.TempDir(), ""), "no site": at(second, "site = 'nowhere'"),
		"other number": at(second, "connections = 7"), "no HTTP/2": at(second, "http2 = false"),
	} {
		if err := f.Reload(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
		if got := served(t, f); got != "first.example" {
			t.Errorf("%s: the certificate is that of %s", name, got)
		}
	}
	if err := f.Reload(at(second, "site = '"+newSite(t)+"'")); err != nil {
		t.Fatal(err)
	}
	if got := served(t, f); got != "second.example" {
		t.Errorf("after Reload the certificate is that of %s", got)
	}
}

// What is wrong with files has the line of the setting.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.toml")
	pttest.WriteCertificate(t, dir, "a.example")
	other := t.TempDir()
	pttest.WriteCertificate(t, other, "b.example")
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"certificate = 'chain.pem'\nkey = 'key.pem'":                                       "",
		"certificate = 'nowhere'\nkey = 'key.pem'":                                         file + ":2: web.certificate: ",
		"certificate = 'chain.pem'\nkey = 'nowhere'":                                       file + ":3: web.key: ",
		"certificate = 'chain.pem'\nkey = '" + other + "/key.pem'":                         file + ":2: web.certificate: it is not usable with its key: ",
		"certificate = 'empty'\nkey = 'key.pem'":                                           file + ":2: web.certificate: it is not usable with its key: ",
		"site = 'nowhere'":                                                                 file + ":2: web.site: ",
		"site = 'empty'":                                                                   file + ":2: web.site: ",
		"acme-domains = ['a.example']\nacme-terms-agreed = true\nacme-roots = 'nowhere'":   file + ":4: web.acme-roots: ",
		"acme-domains = ['a.example']\nacme-terms-agreed = true\nacme-roots = 'empty'":     file + ":4: web.acme-roots: ",
		"acme-domains = ['a.example']\nacme-terms-agreed = true\nacme-roots = 'chain.pem'": "",
	} {
		w := parse(t, file, text)
		err := Check(w)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if e, ok := errors.AsType[*settings.Error](err); err != nil && (!ok || e.File != file) {
			t.Errorf("%q: %v has no place", text, err)
		}
		if w.ACME != nil {
			continue // it is asked after the start
		}
		inner := pttest.Listen(t)
		f, err := Listen(inner, Config{Web: w, URL: secretURL})
		if (err == nil) != (want == "") {
			t.Errorf("%q: Listen: %v", text, err)
		}
		if err == nil {
			f.Close()
		}
	}
}
