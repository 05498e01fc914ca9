package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/internal/settings"
)

// What an authority complains about is found wherever it is.
func TestProblem(t *testing.T) {
	const json, problemJSON = "application/json", "application/problem+json; charset=utf-8"
	for _, test := range []struct{ kind, body, want string }{
		{problemJSON, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}`, `the authority: "too many" (rateLimited)`},
		{problemJSON, `{"type":"urn:ietf:params:acme:error:badNonce","detail":"again"}`, ""},
		{problemJSON, `{"type":"about:blank"}`, `the authority: "" (about:blank)`},
		{json, `{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:caa","detail":"no"}}`, `the authority: "no" (caa)`},
		{json, `{"challenges":[{"status":"valid"},{"error":{"type":"urn:ietf:params:acme:error:connection","detail":"refused"}}]}`, `the authority: "refused" (connection)`},
		{json, `{"status":"valid","challenges":[{"status":"valid"}]}`, ""},
		{json, `{"error":7}`, ""},
		{json, ``, ""},
		{"application/pem-certificate-chain", "-----BEGIN", ""},
		{"", `{"type":"x","detail":"y"}`, ""},
		{"text/html", `<p>`, ""},
	} {
		got := ""
		if err := problem(http.Header{"Content-Type": {test.kind}}, []byte(test.body)); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s %s: %q, want %q", test.kind, test.body, got, test.want)
		}
	}
}

// acmeWeb returns settings for the domain of the tests with an authority.
func acmeWeb(t *testing.T, ca *httptest.Server) *settings.Web {
	t.Helper()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return parse(t, "x.toml", "acme-terms-agreed = true\nacme-domains = ['"+host+"']\nacme-directory = '"+ca.URL+"/dir'\nacme-roots = '"+roots+"'")
}

// private returns a private directory.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An authority that refuses is asked again, later, and at once if that is wanted. No
// handshake makes it be asked, and visitors get an alert.
func TestAuthorityRefuses(t *testing.T) {
	asked := make(chan struct{}, 100)
	ca := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"not you"}`)
	}))
	defer ca.Close()
	w := acmeWeb(t, ca)
	var log records
	f := start(t, Config{Web: w, CacheDir: private(t), Log: log.logger()}, usualTimes)
	await := func(what string) {
		t.Helper()
		select {
		case <-asked:
		case <-time.After(pttest.Patience):
			t.Fatalf("the authority is not asked %s", what)
		}
	}
	await("at the start")
	for range 5 {
		err := tls.Client(pttest.Dial(t, f.Addr().String()), &tls.Config{InsecureSkipVerify: true, ServerName: host}).Handshake()
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Err.Error() != "tls: internal error" {
			t.Errorf("a handshake: %v", err)
		}
	}
	if len(asked) > 0 {
		t.Error("a handshake makes the authority be asked")
	}
	if err := f.Reload(w); err != nil {
		t.Fatal(err)
	}
	await("again")
	for end := time.Now().Add(pttest.Patience); !log.has(`the authority: \"not you\" (unauthorized)`); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the reason is not logged: %s", log.text.String())
		}
	}
	other := *w
	other.ACME = &settings.ACME{Domains: []string{"other.example"}}
	if err := f.Reload(&other); err == nil {
		t.Error("another domain is taken without a new start")
	}
}

// After a pause, an authority that has refused is asked again.
func TestAuthorityIsAskedAgain(t *testing.T) {
	asked := make(chan struct{}, 1000)
	ca := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer ca.Close()
	a, err := newACME(Config{Web: acmeWeb(t, ca), CacheDir: private(t), Log: new(records).logger()})
	if err != nil {
		t.Fatal(err)
	}
	a.first = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.run(ctx); close(done) }()
	for range 3 {
		select {
		case <-asked:
		case <-time.After(pttest.Patience):
			t.Fatal("it is not asked again")
		}
	}
	cancel()
	<-done
}

// An authority that does not answer holds up no end.
func TestAuthorityIsSilent(t *testing.T) {
	asked, gone := make(chan struct{}, 10), make(chan struct{})
	ca := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		close(gone)
	}))
	defer ca.Close()
	f := start(t, Config{Web: acmeWeb(t, ca), CacheDir: private(t)}, usualTimes)
	<-asked
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-gone:
	case <-time.After(pttest.Patience):
		t.Error("the request goes on after Close")
	}
}

// A certificate whose time is nearly over should have been renewed.
func TestRenewalIsLate(t *testing.T) {
	for name, test := range map[string]struct {
		age, left time.Duration
		late      bool
	}{
		"new": {time.Hour, 89 * 24 * time.Hour, false}, "due": {61 * 24 * time.Hour, 29 * 24 * time.Hour, false},
		"late": {80 * 24 * time.Hour, 10 * 24 * time.Hour, true}, "a short one": {time.Hour, 6 * 24 * time.Hour, false},
		"a short one, late": {6 * 24 * time.Hour, 12 * time.Hour, true}, "over": {90 * 24 * time.Hour, -time.Hour, true},
	} {
		var log records
		a := &authority{log: log.logger(), road: &road{}}
		a.road.note(errors.New("what it said"))
		now := time.Now()
		a.report(&domain{name: host}, &tls.Certificate{Leaf: &x509.Certificate{NotBefore: now.Add(-test.age), NotAfter: now.Add(test.left)}})
		if got := log.has("is not renewed") && log.has("what it said"); got != test.late {
			t.Errorf("%s: warned is %v", name, got)
		}
		if !log.has("the web server has its certificate") {
			t.Errorf("%s: that there is one is not logged", name)
		}
	}
}

// Keys are kept in private directories only.
func TestACMENeedsAPlace(t *testing.T) {
	w := parse(t, "x.toml", "acme-terms-agreed = true\nacme-domains = ['"+host+"']")
	open := private(t)
	if err := os.MkdirAll(filepath.Join(open, "acme", "acme-v02.api.letsencrypt.org"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(open, "acme", "acme-v02.api.letsencrypt.org"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", open} {
		if _, err := newACME(Config{Web: w, CacheDir: dir}); err == nil || !strings.HasPrefix(err.Error(), "x.toml:3: web.acme-domains: ") {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
