// Package web is the web server that stands before a server's module. It ends TLS, shows
// everybody the pages of a site, and hands on to the module only connections whose first
// request upgrades the secret path. Private keys stay in the host, out of the sandbox.
package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"waterproxy/internal/crowd"
	"waterproxy/internal/settings"
	"waterproxy/transport"
)

// Config is what a Front does.
type Config struct {
	// Web is what the operator has set.
	Web *settings.Web
	// URL is what clients are given, the option url of the server: https://HOST/PATH. Its
	// path is the secret.
	URL string
	// CacheDir is the private directory in which certificates of ACME are kept; "" for none,
	// with which ACME is an error.
	CacheDir string
	// Dial connects to the authority of ACME; nil is the system's way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log gets what is not as it should be; nil: it is dropped.
	Log *slog.Logger
}

// times are how long a visitor may take.
type times struct {
	header time.Duration // for the handshake of TLS, and for the head of a request
	idle   time.Duration // between two requests
	quiet  time.Duration // without a request, while others wait because there is no room
}

// usualTimes are those of a Caddy without settings of its own, since a time at which a server
// closes tells servers apart; and for quiet some round trips of a slow visitor, for TCP, TLS
// and the request.
var usualTimes = times{header: time.Minute, idle: 5 * time.Minute, quiet: 3 * time.Second}

// Front is a net.Listener of the connections that are for the module. It is safe for
// concurrent use.
type Front struct {
	inner  net.Listener
	log    *slog.Logger
	server *http.Server
	secret secret
	config Config
	now    atomic.Pointer[serving]
	// visitors are the connections that have not been handed on.
	visitors *crowd.Crowd
	tunnels  chan net.Conn
	// certs is what keeps the certificates; nil if there is no TLS.
	certs certificates

	ctx     context.Context // ends with the Front
	end     context.CancelCauseFunc
	closing sync.Once
	running sync.WaitGroup
}

// serving is what Reload replaces.
type serving struct {
	pages   http.Handler
	trusted []netip.Prefix
}

// certificates are where the certificate for a handshake comes from.
type certificates interface {
	// get returns the certificate for a client.
	get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// reload takes over what has changed, or nothing if that is not usable.
	reload(*settings.Web) error
	// run works until ctx ends.
	run(ctx context.Context)
}

// Listen serves visitors that come from inner, which belongs to the Front if there is no
// error, at once: also while Accept is not called.
func Listen(inner net.Listener, c Config) (*Front, error) { return listen(inner, c, usualTimes) }

func listen(inner net.Listener, c Config, t times) (*Front, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	f := &Front{inner: inner, log: c.Log, config: c, tunnels: make(chan net.Conn)}
	f.visitors = crowd.New(cmp.Or(c.Web.Connections, settings.DefaultWebConnections), t.quiet)
	var err error
	if f.secret, err = newSecret(c.URL); err != nil {
		return nil, err
	}
	if f.certs, err = newCertificates(c); err != nil {
		return nil, err
	}
	if at, err := netip.ParseAddrPort(inner.Addr().String()); f.certs == nil && err == nil && !at.Addr().Unmap().IsLoopback() {
		f.log.Warn("the web server speaks no TLS, and others than this machine reach it: anybody on the way can see the secret path",
			"remedy", "certificate and key, or acme-domains, in the settings; or an address of this machine alone, behind a web server")
	}
	if err := f.use(c.Web); err != nil {
		return nil, err
	}
	f.ctx, f.end = context.WithCancelCause(context.Background())
	f.server = &http.Server{
		Handler:           http.HandlerFunc(f.serve),
		ReadHeaderTimeout: t.header,
		IdleTimeout:       t.idle,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // what visitors do wrong
		ConnState:         f.leave,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	if c.Web.HTTP1Only {
		f.server.Protocols = new(http.Protocols)
		f.server.Protocols.SetHTTP1(true)
	}
	serve := func() error { return f.server.Serve(entrance{f}) }
	if f.certs != nil {
		f.server.TLSConfig = &tls.Config{GetCertificate: f.certs.get}
		if c.Web.ACME != nil {
			f.server.TLSConfig.NextProtos = []string{acme.ALPNProto}
		}
		serve = func() error { return f.server.ServeTLS(entrance{f}, "", "") }
		f.running.Go(func() { f.certs.run(f.ctx) })
	}
	f.running.Go(func() { f.stop(serve()) })
	return f, nil
}

// Check returns what is wrong with settings, without the url, as far as that shows before
// anybody listens: files are read, no authority is asked.
func Check(w *settings.Web) error {
	if w == nil {
		return nil
	}
	var errs []error
	if w.Certificate != "" {
		_, err := loadPair(w)
		errs = append(errs, err)
	}
	if w.ACME != nil {
		_, err := roots(w)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, checkSite(w))...)
}

// CheckURL returns what is wrong with the url of a server.
func CheckURL(url string) error {
	_, err := newSecret(url)
	return err
}

// errLater is for a setting that a running server cannot change.
var errLater = errors.New("it changes with the start of the process only: start it again")

// Reload shows visitors what the settings have now, or changes nothing.
func (f *Front) Reload(w *settings.Web) error {
	before := f.config.Web
	switch {
	case w == nil:
		return errors.New("the table [web] has gone: start the process again, so that the port is the module's alone")
	case w.Secure() != before.Secure() || (w.ACME == nil) != (before.ACME == nil):
		return w.At("certificate", errors.New("where certificates come from changes with the start of the process only: start it again"))
	case w.Connections != before.Connections:
		return w.At("connections", errLater)
	case w.HTTP1Only != before.HTTP1Only:
		return w.At("http2", errLater)
	}
	if err := Check(w); err != nil {
		return err
	}
	if f.certs != nil {
		if err := f.certs.reload(w); err != nil {
			return err
		}
	}
	return f.use(w)
}

// use replaces what visitors see.
func (f *Front) use(w *settings.Web) error {
	if err := checkSite(w); err != nil {
		return err
	}
	f.now.Store(&serving{pages: pages(w.Site, f.log), trusted: w.TrustedProxies})
	return nil
}

// Accept returns a connection that is for the module: its first bytes are the head of the
// request. After Close, and after that of the inner listener, the error is net.ErrClosed.
func (f *Front) Accept() (net.Conn, error) {
	select {
	case conn := <-f.tunnels:
		return conn, nil
	case <-f.ctx.Done():
		return nil, context.Cause(f.ctx)
	}
}

// Addr returns the inner listener's address.
func (f *Front) Addr() net.Addr { return f.inner.Addr() }

// Close ends the connections of visitors, and those that Accept has not returned. The
// others live on.
func (f *Front) Close() error {
	err := f.stop(net.ErrClosed)
	f.running.Wait()
	return err
}

// stop ends the Front; the first cause counts.
func (f *Front) stop(cause error) (err error) {
	f.closing.Do(func() {
		f.end(cause)
		err = f.server.Close() // the listener with it
	})
	return err
}

// entrance is the listener of the web server: it counts visitors.
type entrance struct{ *Front }

func (e entrance) Accept() (net.Conn, error) {
	conn, err := e.inner.Accept()
	switch {
	case err == nil:
		e.visitors.Enter(conn)
		return conn, nil
	case errors.Is(err, net.ErrClosed):
		return nil, err
	}
	kind, _ := transport.Kind(err)
	e.log.Warn("cannot accept", transport.KindKey, kind, "error", transport.Scrub(err))
	return nil, passing{err}
}

// passing is an error after which net/http tries again, with a pause. It would end after
// some that pass, such as that there is no memory for a socket.
type passing struct{ error }

// Timeout and Temporary implement net.Error.
func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }

func (e entrance) Close() error { return e.inner.Close() }

// connKey is the key of a connection in the contexts of its requests.
type connKey struct{}

// visitor returns the connection that is in the crowd.
func visitor(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// leave makes room when a visitor's connection has ended.
func (f *Front) leave(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		f.visitors.Leave(visitor(conn))
	}
}

// newCertificates returns nil if the settings have no TLS.
func newCertificates(c Config) (certificates, error) {
	switch {
	case c.Web.ACME != nil:
		return newACME(c)
	case c.Web.Certificate != "":
		return newFiles(c.Web, c.Log)
	}
	return nil, nil
}

// secret is a path that only clients know.
type secret struct {
	path string // as escaped
	hash [sha256.Size]byte
}

// errURL is a url that is none for a transport. It does not have the url: its path is secret.
var errURL = errors.New("the server's option url must be https://HOST/PATH, as in \"ServerTransportOptions webtunnel url=https://www.example.com/SECRET-PATH\"")

// newSecret returns the path of a url.
func newSecret(text string) (s secret, err error) {
	u, err := parseURL(text)
	if err != nil {
		return s, err
	}
	s.path = u.EscapedPath()
	s.hash = sha256.Sum256([]byte(s.path))
	if s.path == "" || s.path == "/" {
		return s, fmt.Errorf("%w: without a path everybody would find the transport", errURL)
	}
	return s, nil
}
