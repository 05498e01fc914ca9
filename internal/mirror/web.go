package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// web is a mirror on a web server.
type web struct {
	base     *url.URL
	client   *http.Client
	patience time.Duration
}

const (
	defaultPatience = 30 * time.Second
	// paceBytes have to come in each time of patience.
	paceBytes = 20_000
	// maxHeader bounds what a server says before a file.
	maxHeader    = 16 << 10
	maxRedirects = 3
)

func openWeb(where string, o Options) (*web, error) {
	base, err := url.Parse(where)
	if err != nil {
		// The text may have a password in it.
		return nil, errors.New("the repository's address is malformed")
	}
	if base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("%s is no address of a repository, such as https://example.org/modules", base.Redacted())
	}
	w := &web{base: base, patience: o.Patience}
	if w.patience == 0 {
		w.patience = defaultPatience
	}
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			DisableCompression:     true, // an answer is as large as it seems
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("the mirror redirects without end")
			}
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("the mirror redirects to where everybody on the way can read")
			}
			r.Header.Del("Referer")
			return nil
		},
	}
	return w, nil
}

func (w *web) String() string { return w.base.Redacted() }

func (w *web) Close() error {
	w.client.CloseIdleConnections()
	return nil
}

func (w *web) Get(ctx context.Context, file string, limit int64) (data []byte, err error) {
	err = w.request(ctx, file, 0, limit, func(body io.Reader, _ bool) error {
		data, err = readAll(body, limit)
		return err
	})
	return data, err
}

func (w *web) Resume(ctx context.Context, file string, to *os.File, length int64) error {
	have, err := to.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have >= length {
		have = 0 // whatever it is, it is not the beginning of the file
	}
	return w.request(ctx, file, have, length, func(body io.Reader, resumed bool) error {
		if !resumed {
			have = 0
		}
		if err := to.Truncate(have); err != nil {
			return err
		}
		n, err := io.Copy(io.NewOffsetWriter(to, have), io.LimitReader(body, length-have+1))
		if err == nil && have+n > length {
			err = tooLarge(length)
		}
		if err == nil && have+n < length {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// request asks for a file, from a byte on, and gives its body to read. resumed is whether
// it begins there, and not at the beginning.
func (w *web) request(ctx context.Context, file string, from, limit int64, read func(body io.Reader, resumed bool) error) (err error) {
	if !isLocal(file) {
		return errPath(file)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s from %s: %w", file, w, bare(err))
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &pace{}
	stop := p.watch(w.patience, func() { cancel(ErrSlow) })
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath(file).String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "") // it is then left out
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	answer, err := w.client.Do(r)
	if err != nil {
		return explain(ctx, err)
	}
	defer answer.Body.Close()
	resumed := answer.StatusCode == http.StatusPartialContent
	switch {
	case resumed && from > 0 && !startsAt(answer, from):
		return fmt.Errorf("%w: it sends another part", ErrRange)
	case answer.StatusCode == http.StatusOK, resumed && from > 0:
	case answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusGone:
		// Object stores answer 403 for what is not there. A connection of HTTP/1.1 can be
		// used again once the answer has been read.
		_, _ = io.CopyN(io.Discard, answer.Body, maxHeader)
		return fmt.Errorf("%w (%s)", ErrNotFound, answer.Status)
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w (%s)", ErrRange, answer.Status)
	default:
		return fmt.Errorf("the mirror answers %.100q", answer.Status)
	}
	if !resumed {
		from = 0
	}
	if answer.ContentLength > limit-from {
		return tooLarge(limit)
	}
	p.reader = answer.Body
	return explain(ctx, read(p, resumed))
}

func startsAt(answer *http.Response, from int64) bool {
	var first int64
	n, err := fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-", &first)
	return n == 1 && err == nil && first == from
}

// explain adds why a context ended an exchange.
func explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// bare removes from an error of a request what repeats its address.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// pace is a reader that has to go on.
type pace struct {
	reader io.Reader
	got    atomic.Int64
}

func (p *pace) Read(b []byte) (int, error) {
	n, err := p.reader.Read(b)
	p.got.Add(int64(n))
	return n, err
}

// watch calls slow once too little has come in a time of patience.
func (p *pace) watch(patience time.Duration, slow func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(patience)
		defer tick.Stop()
		for last := int64(0); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := p.got.Load()
			if now-last < paceBytes {
				slow()
				return
			}
			last = now
		}
	}()
	return func() { close(done) }
}
