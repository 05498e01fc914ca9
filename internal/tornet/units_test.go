package tornet

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLookUpMissing(t *testing.T) {
	_, err := LookUp("no-such-program")
	var missing *MissingProgramError
	if !errors.As(err, &missing) || missing.Program != "no-such-program" {
		t.Errorf("got %v", err)
	}
	for program, want := range map[string]string{"tor": "apt install tor", "tor-gencert": "apt install tor", "obfs4proxy": "apt install obfs4proxy"} {
		err := &MissingProgramError{Program: program, Package: packages[program]}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestPluginLine(t *testing.T) {
	line, err := Plugin{Transports: []string{"a", "b"}, Exec: []string{"/bin/x", "-y"}}.line("ClientTransportPlugin")
	if want := "ClientTransportPlugin a,b exec /bin/x -y"; err != nil || line != want {
		t.Errorf("got %q and %v, want %q", line, err, want)
	}
	for _, wrong := range []Plugin{
		{},
		{Transports: []string{"a"}},
		{Exec: []string{"/bin/x"}},
		{Transports: []string{"a"}, Exec: []string{"x"}},
		{Transports: []string{"a b"}, Exec: []string{"/bin/x"}},
		{Transports: []string{"a"}, Exec: []string{"/bin/x y"}},
		{Transports: []string{"a"}, Exec: []string{"/bin/x", ""}},
		{Transports: []string{"a"}, Exec: []string{"/bin/x", "#y"}},
		{Transports: []string{"a"}, Exec: []string{"/bin/x", "y\nSocksPort 9050"}},
	} {
		if line, err := wrong.line("ClientTransportPlugin"); err == nil {
			t.Errorf("%+v became %q", wrong, line)
		}
	}
}

func TestPrepareDirRefuses(t *testing.T) {
	for _, dir := range []string{"/tmp/a b", "/tmp/a#b", `/tmp/a"b`} {
		if _, err := prepareDir(dir); err == nil {
			t.Errorf("took %q", dir)
		}
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if got := len(slices.Compact(ports)); got != 50 {
		t.Errorf("%d of 50 ports differ", got)
	}
}

func TestWithFreshPorts(t *testing.T) {
	other := errors.New("another reason")
	for _, test := range []struct {
		results []error
		want    error
	}{
		{[]error{nil}, nil},
		{[]error{ErrPortTaken, nil}, nil},
		{[]error{ErrPortTaken, other}, other},
		{slices.Repeat([]error{ErrPortTaken}, portAttempts), ErrPortTaken},
	} {
		calls := 0
		err := withFreshPorts(func() error { calls++; return test.results[calls-1] })
		if err != test.want || calls != len(test.results) {
			t.Errorf("%v: got %v after %d calls", test.results, err, calls)
		}
	}
}

func TestProgressRises(t *testing.T) {
	var got []int
	report := Progress(func(_ string, percent int) { got = append(got, percent) }).stage("x")
	for _, percent := range []int{0, 10, 5, 10, 100, 100} {
		report(percent)
	}
	if want := []int{0, 10, 100}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	Progress(nil).stage("x")(50)
}

func TestWeb(t *testing.T) {
	web, err := StartWeb(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := web.Probe(ctx, http.DefaultClient); err != nil {
		t.Error(err)
	}
	var last int64
	if err := web.Download(ctx, http.DefaultClient, func(sofar int64) { last = sofar }); err != nil || last != web.Size() {
		t.Errorf("the download ended after %d bytes with %v", last, err)
	}
	if err := web.Upload(ctx, http.DefaultClient); err != nil {
		t.Error(err)
	}
	spoilt := &http.Client{Transport: spoil{http.DefaultTransport}}
	if err := web.Download(ctx, spoilt, nil); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a spoilt download: %v", err)
	}
	if err := web.Upload(ctx, spoilt); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a spoilt upload: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := web.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := web.Probe(ctx, http.DefaultClient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a probe of a closed server: %v", err)
	}
}

// spoil changes the first byte of each body.
type spoil struct{ http.RoundTripper }

func (s spoil) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = &spoiltBody{ReadCloser: r.Body}
	}
	response, err := s.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet {
		response.Body = &spoiltBody{ReadCloser: response.Body}
	}
	return response, err
}

type spoiltBody struct {
	io.ReadCloser
	done bool
}

func (b *spoiltBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && !b.done {
		b.done = true
		p[0] ^= 1
	}
	return n, err
}
