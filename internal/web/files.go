package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"waterproxy/internal/settings"
	"waterproxy/internal/userfile"
	"waterproxy/internal/walls"
)

// maxPEM is how many bytes a file of certificates or a key may have.
const maxPEM = 1 << 20

// filesPause is how often handshakes look whether the files have changed, at most.
const filesPause = time.Second

// files is a certificate of two files, which are read again when they have changed. A pair
// that is not usable, as it is while one file of two is new, leaves the old one in use.
type files struct {
	log *slog.Logger
	now atomic.Pointer[tls.Certificate]

	looking sync.Mutex
	web     *settings.Web
	stamp   string    // of the files that were read last, usable or not
	looked  time.Time // when
}

func newFiles(w *settings.Web, log *slog.Logger) (*files, error) {
	f := &files{log: log}
	return f, f.reload(w)
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.looking.TryLock() { // or another handshake looks
		f.look(filesPause)
		f.looking.Unlock()
	}
	return f.now.Load(), nil
}

// look reads the files if they have changed, unless the last look is not longer ago than
// pause. The lock is held.
func (f *files) look(pause time.Duration) {
	if time.Since(f.looked) < pause {
		return
	}
	f.looked = time.Now()
	stamp := userfile.Stamp(f.web.Files()...)
	if stamp == f.stamp {
		return
	}
	f.stamp = stamp
	cert, err := loadPair(f.web)
	if err != nil {
		f.log.Warn("the new certificate cannot be used; the old one stays", "error", err)
		return
	}
	f.now.Store(cert)
	f.log.Info("new connections get the new certificate", "good_until", cert.Leaf.NotAfter.UTC())
}

func (f *files) reload(w *settings.Web) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	stamp := userfile.Stamp(w.Files()...) // before they are read: what changes meanwhile is read again
	cert, err := loadPair(w)
	if err != nil {
		return err
	}
	f.web, f.stamp, f.looked = w, stamp, time.Now()
	f.now.Store(cert)
	return nil
}

func (f *files) run(context.Context) {} // handshakes do the work

// loadPair reads the certificate and the key that settings name.
func loadPair(w *settings.Web) (*tls.Certificate, error) {
	chain, err := userfile.Read(w.Certificate, maxPEM)
	if err != nil {
		return nil, w.At("certificate", walls.Explain(err))
	}
	key, err := userfile.Read(w.Key, maxPEM)
	if err != nil {
		return nil, w.At("key", walls.Explain(err))
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, w.At("certificate", fmt.Errorf("it is not usable with its key: %w", err))
	}
	return &cert, nil
}
