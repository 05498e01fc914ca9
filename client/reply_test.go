package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/meter"
	"waterproxy/transport"
	"waterproxy/transport/testmodules"
)

// failures are errors of a dial with the SOCKS5 reply code for each (RFC 1928,
// section 6).
var failures = map[string]struct {
	err  error
	want byte
}{
	"refused":          {dialError(syscall.ECONNREFUSED), 5},
	"no network":       {dialError(syscall.ENETUNREACH), 3},
	"no host":          {dialError(syscall.EHOSTUNREACH), 4},
	"no such name":     {&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}}, 4},
	"no name server":   {&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}}, 4},
	"kernel's timeout": {dialError(syscall.ETIMEDOUT), 6},
	"dialer's timeout": {&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}, 6},
	"context's":        {context.DeadlineExceeded, 6},
	"reset":            {dialError(syscall.ECONNRESET), 1},
	"cancelled":        {context.Canceled, 1},
	"something":        {errors.New("something"), 1},
}

func dialError(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
}

func TestReply(t *testing.T) {
	for name, f := range failures {
		for _, err := range []error{
			f.err,
			fmt.Errorf("wrapped: %w", f.err),
			&transport.Error{Op: "dial", Layer: transport.ErrNetwork, Err: f.err},
		} {
			if got := reply(err); got != f.want {
				t.Errorf("%s: reply %d to %v, want %d", name, got, err, f.want)
			}
		}
	}
	for layer, want := range map[error]byte{
		transport.ErrPolicy: 2, transport.ErrConfig: 1, transport.ErrModule: 1, transport.ErrRole: 1, transport.ErrTrap: 1, transport.ErrLimit: 1,
	} {
		if got := reply(&transport.Error{Op: "dial", Layer: layer, Err: errors.New("x")}); got != want {
			t.Errorf("reply %d to a %v, want %d", got, layer, want)
		}
	}
	// What the policy forbids is forbidden, whatever was tried before.
	if got := reply(&transport.Error{Op: "dial", Layer: transport.ErrPolicy, Err: syscall.ECONNREFUSED}); got != 2 {
		t.Errorf("reply %d to what the policy forbids, want 2", got)
	}
}

// load returns the configuration of a test module.
func load(t *testing.T, name string) transport.Config {
	t.Helper()
	m, err := transport.Compile(testmodules.Load(t, name), transport.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return transport.Config{Module: m}
}

// serve starts a proxy that ends with the test.
func serve(t *testing.T, d transport.Dialer, f Frontend, log *slog.Logger) *Proxy {
	t.Helper()
	p := open(t, d, f, log)
	p.conns.Go(p.acceptLoop)
	return p
}

// open returns a proxy that does not accept yet.
func open(t *testing.T, d transport.Dialer, f Frontend, log *slog.Logger) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t.Context(), ln, d, f, Options{Transport: "t", Log: log, Meter: meter.New()})
	t.Cleanup(func() {
		p.Close()
		p.Wait()
	})
	return p
}

// start starts a proxy for tor with a module.
func start(t *testing.T, cfg transport.Config) *Proxy {
	t.Helper()
	d, err := transport.NewReloadableDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, d, Tor{}, slog.New(slog.DiscardHandler))
}

// ask makes a SOCKS request and returns the reply code.
func ask(t *testing.T, p *Proxy) byte {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	for _, step := range []struct {
		say  string
		want int
	}{{"\x05\x01\x00", 2}, {"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x09", 10}} {
		if _, err := io.WriteString(c, step.say); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, step.want)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if step.want == 10 {
			return got[1]
		}
	}
	return 0
}

// The reason of a dial's failure survives the way through the module.
func TestReplyThroughModule(t *testing.T) {
	for _, module := range []string{"plain_v0", "plain_v1", "posix_v1"} {
		cfg := load(t, module)
		for name, f := range failures {
			cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, f.err }
			if got := ask(t, start(t, cfg)); got != f.want {
				t.Errorf("%s, %s: reply %d, want %d", module, name, got, f.want)
			}
		}
	}
}

// A peer that does not answer in time is reported as such, whether it is the
// connection or the module's handshake that takes too long.
func TestReplyToTimeout(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, test := range map[string]struct {
		module string
		dial   func(context.Context, string, string) (net.Conn, error)
		want   byte
	}{
		"connection": {"plain_v1", func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, 6},
		"handshake": {"framed_v1", func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, silent.Addr().String())
		}, 6},
	} {
		cfg := load(t, test.module)
		cfg.SetupTimeout = time.Second / 2
		cfg.Dial = test.dial
		if got := ask(t, start(t, cfg)); got != test.want {
			t.Errorf("%s: reply %d, want %d", name, got, test.want)
		}
	}
}

// Closing the proxy ends set-ups, and leaves nothing behind.
func TestClose(t *testing.T) {
	cfg := load(t, "plain_v1")
	dialing := make(chan struct{})
	cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p := start(t, cfg)
	replied := make(chan byte, 1)
	go func() { replied <- ask(t, p) }()
	<-dialing
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := <-replied; got != 1 {
		t.Errorf("reply %d, want 1", got)
	}
	ended := make(chan struct{})
	go func() { p.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("something is left")
	}
	again, err := net.Listen("tcp", p.Addr().String())
	if err != nil {
		t.Fatalf("it still listens: %v", err)
	}
	again.Close()
}
