package guest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"waterproxy/internal/records"
	"waterproxy/transport/testmodules"
)

// startMany runs an instance of the module faults, and returns how many descriptors
// it has without a connection.
func startMany(t *testing.T, l Limits) (m *Many, descriptors int) {
	t.Helper()
	ctx := context.Background()
	module, err := Compile(ctx, testmodules.Load(t, "go/faults"), [32]byte{}, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.Memory, l.Instances = 64<<20, 1
	m, err = StartMany(ctx, module, Options{
		Role: Client, Host: echoHost, Limits: l, Drain: time.Minute, DialTimeout: time.Minute,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	descriptors = m.fds.used + 1 // the control descriptor comes with Run
	ended := make(chan struct{})
	m.Own.SetEnd(func(error) { close(ended) })
	done := make(chan error, 1)
	go func() { done <- m.Run() }()
	t.Cleanup(func() {
		m.Stop()
		if err := <-done; err != nil {
			t.Errorf("the instance ended with %v", err)
		}
		<-ended
		m.Release()
		if err := module.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, descriptors
}

// echoHost dials an echo server.
var echoHost = hostFuncs{dial: func() (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(far, far)
		far.Close()
	}()
	return near, nil
}}

// awaitDescriptors waits until the instance has n descriptors.
func (m *Many) awaitDescriptors(t *testing.T, what string, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); len(m.fds.all()) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: the instance has %d descriptors, want %d", what, len(m.fds.all()), n)
		}
	}
}

// TestManyLeavesNothing: whatever becomes of a connection, its descriptors leave the
// instance's table, and it leaves the list of connections.
func TestManyLeavesNothing(t *testing.T) {
	m, before := startMany(t, Limits{Descriptors: 8, Conns: 8})
	kill := func(c *Conn) { c.Abort(nil) }
	use := func(c *Conn) { _, _ = c.App().Write([]byte("something")) }
	for _, test := range []struct {
		args string
		end  func(c *Conn) // how it ends once it is up; nil if it does not come up
	}{
		{"", func(c *Conn) { _ = c.App().Close(); c.Close() }},
		{"", kill},
		{"connect=twice", kill},
		{"connect=none", kill},
		{"connect=relay", kill},
		{"write=panic", use},
		{"read=error", use},
		{"setup=error", nil},
		{"setup=panic", nil},
		{"setup=wait", nil},
		{"setup=hang", nil},
		{"connect=hoard", nil},
		{"connect=nonsense", nil},
		{"no argument", nil},
	} {
		ended := make(chan error, 1)
		c := m.NewConn(ConnOptions{
			Host: echoHost, Target: "tcp 192.0.2.1:1", Args: test.args,
			End: func(err error) { ended <- err },
		})
		ctx, cancel := context.WithCancel(context.Background())
		if test.end == nil {
			time.AfterFunc(100*time.Millisecond, cancel)
		}
		err := c.Open(ctx)
		cancel()
		if (err == nil) != (test.end != nil) {
			t.Errorf("%q: %v", test.args, err)
		}
		if err == nil && test.end != nil {
			test.end(c)
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatalf("%q: it does not end", test.args)
			}
			for _, p := range c.Endpoints() {
				_ = p.Close() // as its user does
			}
		}
		if n := m.Load(); n != 0 {
			t.Errorf("%q: %d connections are left", test.args, n)
		}
		m.awaitDescriptors(t, test.args, before)
	}
}

// TestManyRefuses: a connection that the instance never had leaves nothing either.
func TestManyRefuses(t *testing.T) {
	m := &Many{Instance: newInstance(context.Background(), &Module{shape: &Shape{ABI: abis[0]}}, Options{})}
	for name, o := range map[string]ConnOptions{
		"too many":       {},
		"long arguments": {Args: string(make([]byte, records.MaxOpen+1))},
	} {
		c := m.NewConn(o)
		var limit *LimitError
		if err := c.Open(context.Background()); !errors.As(err, &limit) {
			t.Errorf("%s: %v", name, err)
		}
		if c.life.Err() == nil {
			t.Errorf("%s: the instance still knows it", name)
		}
	}
}
