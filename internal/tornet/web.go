package tornet

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	filePath   = "/file"
	uploadPath = "/upload"
	probePath  = "/probe"
)

const (
	// probeAttempt is how long one attempt of a probe may take.
	probeAttempt = 15 * time.Second
	// probePause is how long a probe waits between two attempts.
	probePause = 250 * time.Millisecond
)

// Web is a web server on loopback that has one file of random bytes and that
// returns what it received.
type Web struct {
	content  []byte
	sum      string
	listener net.Listener
	server   *http.Server
	served   chan error
	requests atomic.Int64
}

// StartWeb starts a web server with a file of size random bytes.
func StartWeb(size int64) (*Web, error) {
	if size < 0 {
		return nil, fmt.Errorf("a file of %d bytes cannot be", size)
	}
	var seed [32]byte
	if _, err := cryptorand.Read(seed[:]); err != nil {
		return nil, err
	}
	content := make([]byte, size)
	if _, err := rand.NewChaCha8(seed).Read(content); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	w := &Web{content: content, sum: hex.EncodeToString(sum[:]), listener: listener, served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+filePath, w.serveFile)
	mux.HandleFunc("POST "+uploadPath, w.receive)
	mux.HandleFunc("GET "+probePath, func(http.ResponseWriter, *http.Request) {})
	w.server = &http.Server{Handler: w.count(mux), ReadHeaderTimeout: time.Minute}
	go func() { w.served <- w.server.Serve(listener) }()
	return w, nil
}

func (w *Web) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		next.ServeHTTP(rw, r)
	})
}

func (w *Web) serveFile(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.content))
}

func (w *Web) receive(rw http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r.Body); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	// An error here shows at the other end, as an answer that is missing.
	_, _ = io.WriteString(rw, hex.EncodeToString(hash.Sum(nil)))
}

// Addr returns the server's address, host:port.
func (w *Web) Addr() string { return w.listener.Addr().String() }

// FileURL returns where the file is.
func (w *Web) FileURL() string { return "http://" + w.Addr() + filePath }

// Size returns the size of the file.
func (w *Web) Size() int64 { return int64(len(w.content)) }

// SHA256 returns the file's SHA-256 in hexadecimal digits.
func (w *Web) SHA256() string { return w.sum }

// Requests returns how many requests have arrived.
func (w *Web) Requests() int64 { return w.requests.Load() }

// Close stops the server and cuts its connections.
func (w *Web) Close() error {
	err := w.server.Close()
	if served := <-w.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Probe asks the server for nothing until it answers: the first circuits of a
// new client may fail.
func (w *Web) Probe(ctx context.Context, client *http.Client) error {
	for {
		err := w.probeOnce(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the web server does not answer: %w (last: %w)", context.Cause(ctx), err)
		case <-time.After(probePause):
		}
	}
}

func (w *Web) probeOnce(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, probeAttempt)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.Addr()+probePath, nil)
	if err != nil {
		return err
	}
	_, err = do(client, request, io.Discard)
	return err
}

// Download fetches the file through client and checks its size and its
// SHA-256. progress, unless it is nil, gets how many bytes have arrived so
// far.
func (w *Web) Download(ctx context.Context, client *http.Client, progress func(sofar int64)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.FileURL(), nil)
	if err != nil {
		return err
	}
	hash := sha256.New()
	var into io.Writer = hash
	if progress != nil {
		into = io.MultiWriter(hash, &tally{report: progress})
	}
	got, err := do(client, request, into)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", got, w.Size(), err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); got != w.Size() || sum != w.sum {
		return fmt.Errorf("got %d bytes with the SHA-256 %s, the file has %d with %s", got, sum, w.Size(), w.sum)
	}
	return nil
}

// Upload sends the file through client and checks the SHA-256 of what the
// server received.
func (w *Web) Upload(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.Addr()+uploadPath,
		bytes.NewReader(w.content))
	if err != nil {
		return err
	}
	var answer bytes.Buffer
	if _, err := do(client, request, &answer); err != nil {
		return err
	}
	if sum := answer.String(); sum != w.sum {
		return fmt.Errorf("the server received something with the SHA-256 %s, the file has %s", sum, w.sum)
	}
	return nil
}

// do sends a request and copies the body of the answer; the answer must be 200.
func do(client *http.Client, request *http.Request, into io.Writer) (int64, error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 1024))
		return 0, errors.Join(fmt.Errorf("the web server answers %s: %s", response.Status, text), err)
	}
	return io.Copy(into, response.Body)
}

// tally counts what is written to it.
type tally struct {
	sofar  int64
	report func(sofar int64)
}

func (t *tally) Write(p []byte) (int, error) {
	t.sofar += int64(len(p))
	t.report(t.sofar)
	return len(p), nil
}
