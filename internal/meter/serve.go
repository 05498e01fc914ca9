package meter

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"waterproxy/internal/crowd"
)

// Bounds of the server. Those who ask are on this machine and ask for little.
const (
	maxConns        = 32
	quietGrace      = 250 * time.Millisecond // no connection is closed for another one before
	requestTimeout  = 5 * time.Second
	responseTimeout = 10 * time.Second
	idleTimeout     = time.Minute // longer than most scrape intervals
	maxRequest      = 8 << 10     // bytes of a request's header
)

// Pauses between attempts to listen at an address that cannot be used yet: each is
// twice the one before.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// Serve answers GET /metrics at an address: unix:PATH, or a loopback HOST:PORT. Only
// this machine may ask. The error is that of [CheckAddress]. An address that cannot be
// used yet, because an earlier process still listens there, say, is logged as a warning
// and tried again until it can. stop ends it; a Unix socket is removed by then, unless
// a later process has taken its path over.
func (m *Meter) Serve(address string, log *slog.Logger) (stop func(), err error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	e, err := parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	first, err := e.listen()
	m.waiting.Store(err != nil)
	if err != nil {
		log.Warn("metrics cannot be served yet; trying again until they can", "error", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l := first
		if l == nil {
			if l = e.listenLater(ctx, log); l == nil {
				return
			}
			m.waiting.Store(false)
			log.Info("metrics are served now")
		}
		m.serve(ctx, l, log)
	}()
	return func() { cancel(); <-ended }, nil
}

// Waiting reports whether Serve still tries to listen.
func (m *Meter) Waiting() bool { return m.waiting.Load() }

// listenLater tries until it succeeds, or returns nil when ctx ends.
func (e endpoint) listenLater(ctx context.Context, log *slog.Logger) net.Listener {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		l, err := e.listen()
		if err == nil {
			return l
		}
		log.Debug("metrics cannot be served yet", "next", min(2*pause, maxPause), "error", err)
	}
}

func (e endpoint) listen() (net.Listener, error) {
	if e.network == "unix" {
		s, err := listenUnix(e.address)
		if err != nil {
			return nil, err // and not a nil *socket
		}
		return s, nil
	}
	return net.Listen(e.network, e.address)
}

// serve answers requests until ctx ends.
func (m *Meter) serve(ctx context.Context, l net.Listener, log *slog.Logger) {
	srv := m.server(l.Addr().Network(), log)
	stop := context.AfterFunc(ctx, func() {
		if err := srv.Close(); err != nil {
			log.Debug("closing the metrics", "error", err)
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("metrics are served no more", "error", err)
	}
}

// server returns the bounded server of the figures.
func (m *Meter) server(network string, log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	handler := http.Handler(mux)
	if network != "unix" { // a web browser cannot be led to a Unix socket
		handler = addressedHere(handler)
	}
	conns := crowd.New(maxConns, quietGrace)
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      responseTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequest,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState: func(conn net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Enter(conn)
			case http.StateActive, http.StateIdle:
				conns.Renew(conn)
			case http.StateClosed:
				conns.Leave(conn)
			}
		},
	}
}

// addressedHere refuses requests whose Host is a name: a web page whose name stands for
// a loopback address could have a browser read the figures for it.
func addressedHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			http.Error(w, "metrics: the Host header must be an IP address or localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether a Host header, with or without a port, needs no name server.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}
