package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"waterproxy/internal/program"
	"waterproxy/internal/settings"
	"waterproxy/internal/statedir"
	"waterproxy/internal/userfile"
	"waterproxy/internal/walls"
)

// Pauses between attempts to get certificates. Authorities count failures: Let's Encrypt
// takes five for a domain in an hour.
const (
	firstRetry   = 5 * time.Minute // each is twice the one before
	longestRetry = 6 * time.Hour
	renewalLook  = 12 * time.Hour // how often to look whether renewals have succeeded
)

// authority gets certificates by ACME, by the challenge tls-alpn-01, and keeps them in
// files. autocert renews them. Unlike autocert alone it asks the authority at its own
// times only: a handshake of a visitor never makes it, and never waits for it.
type authority struct {
	web     *settings.ACME
	log     *slog.Logger
	cache   autocert.Cache
	road    *road
	domains map[string]*domain
	again   chan struct{} // of size 1
	first   time.Duration // firstRetry, but for tests
}

// domain is one of an authority's.
type domain struct {
	name string
	// manager is a new one after each failure, which autocert remembers for a while.
	manager atomic.Pointer[autocert.Manager]
	ready   atomic.Bool // it has a certificate
}

var (
	errNoCertificate = errors.New("there is no certificate for that name")
	errNotYet        = errors.New("there is no certificate yet")
)

func newACME(c Config) (*authority, error) {
	w := c.Web.ACME
	if c.CacheDir == "" {
		return nil, c.Web.At("acme-domains", errors.New("certificates need a private state directory to be kept in, and there is none that is usable"))
	}
	from, err := url.Parse(directory(w))
	if err != nil {
		return nil, c.Web.At("acme-directory", err)
	}
	// What one authority has issued is not for another, which may be one for tests.
	dir := filepath.Join(c.CacheDir, "acme", strings.ReplaceAll(from.Host, ":", "_"))
	if err := statedir.MakePrivate(dir); err != nil {
		return nil, c.Web.At("acme-domains", fmt.Errorf("certificates cannot be kept: %w", err))
	}
	pool, err := roots(c.Web)
	if err != nil {
		return nil, err
	}
	a := &authority{
		web: w, log: c.Log, cache: autocert.DirCache(dir), domains: map[string]*domain{}, again: make(chan struct{}, 1), first: firstRetry,
		road: &road{ended: make(chan struct{}), base: &http.Transport{
			DialContext: c.Dial, TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: time.Minute, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: time.Minute,
		}},
	}
	for _, name := range w.Domains {
		d := &domain{name: name}
		d.manager.Store(a.newManager(name))
		a.domains[name] = d
	}
	return a, nil
}

// directory returns the URL of an authority.
func directory(w *settings.ACME) string { return cmp.Or(w.Directory, autocert.DefaultACMEDirectory) }

// roots returns what the authority's own certificate is verified by; nil is what the system
// trusts.
func roots(w *settings.Web) (*x509.CertPool, error) {
	if w.ACME.Roots == "" {
		return nil, nil
	}
	text, err := userfile.Read(w.ACME.Roots, maxPEM)
	if err != nil {
		return nil, w.At("acme-roots", walls.Explain(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, w.At("acme-roots", fmt.Errorf("%s has no certificate in PEM", w.ACME.Roots))
	}
	return pool, nil
}

func (a *authority) newManager(domain string) *autocert.Manager {
	return &autocert.Manager{
		Prompt:     autocert.AcceptTOS, // the settings have agreed to them
		Cache:      a.cache,
		HostPolicy: autocert.HostWhitelist(domain),
		Email:      a.web.Email,
		Client:     &acme.Client{DirectoryURL: directory(a.web), HTTPClient: &http.Client{Transport: a.road}, UserAgent: "waterproxy/" + program.Version},
	}
}

// get implements certificates. The handshake of an authority's challenge gets the answer
// to it; a visitor's that has no server name, or another's, fails.
func (a *authority) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	d := a.domains[strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")]
	switch {
	case d == nil:
		return nil, errNoCertificate
	case slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}):
		return d.manager.Load().GetCertificate(hello)
	case !d.ready.Load():
		return nil, errNotYet
	}
	return d.certificate()
}

// certificate returns the certificate of a domain. If there is none it asks the authority
// for one and waits. It is an ECDSA one, whatever a visitor understands: autocert would ask
// for another kind of certificate otherwise.
func (d *domain) certificate() (*tls.Certificate, error) {
	return d.manager.Load().GetCertificate(&tls.ClientHelloInfo{
		ServerName: d.name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
}

// reload implements certificates: a failed attempt is tried again now.
func (a *authority) reload(w *settings.Web) error {
	if !reflect.DeepEqual(w.ACME, a.web) {
		return w.At("acme-domains", errors.New("what concerns the authority changes with the start of the process only: start it again"))
	}
	select {
	case a.again <- struct{}{}:
	default: // it has been asked for already
	}
	return nil
}

// run implements certificates.
func (a *authority) run(ctx context.Context) {
	defer a.road.end()
	for retry := a.first; ; {
		done := make(chan bool, 1)
		go func() { done <- a.obtain(ctx, retry) }() // autocert cannot be interrupted, but for its requests
		next := renewalLook
		select {
		case ok := <-done:
			if !ok {
				next, retry = retry, min(2*retry, longestRetry)
			} else {
				retry = a.first
			}
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-a.again:
			retry = a.first
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// obtain sees to it that each domain has a certificate that is good for a while. It
// reports whether each has one; if not, it will be called again after retry.
func (a *authority) obtain(ctx context.Context, retry time.Duration) (all bool) {
	all = true
	for _, name := range a.web.Domains {
		d := a.domains[name]
		a.road.forget()
		cert, err := d.certificate()
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			all = false
			a.log.Warn("there is no certificate for the web server: the authority has not issued one", "domain", name,
				"error", a.road.explain(err), "retry_in", retry)
			d.manager.Store(a.newManager(name))
		default:
			a.report(d, cert)
		}
	}
	return all
}

// report logs a certificate that is new, or that should have been renewed.
func (a *authority) report(d *domain, cert *tls.Certificate) {
	until := cert.Leaf.NotAfter
	if !d.ready.Swap(true) {
		a.log.Info("the web server has its certificate", "domain", d.name, "good_until", until.UTC())
	}
	// autocert renews when a third of the time is left, or 30 days; half of that is late.
	due := min(until.Sub(cert.Leaf.NotBefore)/3, 30*24*time.Hour)
	if left := time.Until(until); left < due/2 {
		a.log.Warn("the web server's certificate is not renewed", "domain", d.name, "good_until", until.UTC(),
			"error", a.road.explain(errors.New("the authority has not issued a new one")))
	}
}

// road is the way to the authority. It notes what the authority has against an order, which
// autocert does not return.
type road struct {
	base   http.RoundTripper
	ending sync.Once
	ended  chan struct{}

	mu     sync.Mutex
	reason error
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 1 << 20

// RoundTrip implements http.RoundTripper. The answer has been read when it returns, so that
// requests end with the road.
func (r *road) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		select {
		case <-r.ended:
			cancel()
		case <-finished:
		}
	}()
	resp, err := r.base.RoundTrip(req.WithContext(ctx))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		err = errors.Join(err, resp.Body.Close())
	}
	if err != nil {
		r.note(fmt.Errorf("the authority cannot be reached: %w", err))
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	r.note(problem(resp.Header, body))
	return resp, nil
}

// problem returns what an answer of the authority complains about, nil for nothing: either
// the whole of it is a problem (RFC 7807), or a challenge or an order has one.
func problem(h http.Header, body []byte) error {
	type details struct{ Type, Detail string }
	var answer struct {
		details
		Error      *details
		Challenges []struct{ Error *details }
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || !strings.HasSuffix(kind, "json") || json.Unmarshal(body, &answer) != nil {
		return nil // a certificate, say
	}
	found := answer.Error
	for _, c := range answer.Challenges {
		found = cmp.Or(found, c.Error)
	}
	if kind == "application/problem+json" && !strings.HasSuffix(answer.Type, ":badNonce") { // which is tried again
		found = &answer.details
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf("the authority: %q (%s)", found.Detail, strings.TrimPrefix(found.Type, "urn:ietf:params:acme:error:"))
}

// note keeps the first reason: what follows is a consequence.
func (r *road) note(reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = cmp.Or(r.reason, reason)
}

func (r *road) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = nil
}

// explain returns the reason that was noted, or else err.
func (r *road) explain(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.reason, err)
}

// end ends the requests under way, and those to come.
func (r *road) end() { r.ending.Do(func() { close(r.ended) }) }
