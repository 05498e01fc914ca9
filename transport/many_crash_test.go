package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// broken reports whether an error says that the module as a whole has failed.
func broken(err error) bool { return errors.Is(err, ErrModule) || errors.Is(err, ErrTrap) }

// checkBroken: a connection has ended because its instance has.
func checkBroken(t *testing.T, what string, c Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); !broken(err) {
		t.Errorf("%s: reading says %v", what, err)
	}
	within(t, what, func() { <-c.Done() })
	if err := c.Err(); !broken(err) {
		t.Errorf("%s: it ended with %v", what, err)
	}
}

// TestInstanceFails: an instance that fails takes its connections with it and says
// so, and no others. The next dial starts a new one.
func TestInstanceFails(t *testing.T) {
	for _, name := range []string{"crash", "exit"} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, faults+inOne)
			address := echoServer(t)
			elsewhere := neighbour(t, dial(t, manyDialer(t, cfg), address, nil))
			d := manyDialer(t, cfg)
			a, b := dial(t, d, address, nil), dial(t, d, address, fault("write", name))
			if err := roundTrip(a, "hello"); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(b, "now"); err != nil {
				t.Error(err)
			}
			checkBroken(t, "bystander", a)
			checkBroken(t, "culprit", b)
			c := dial(t, d, address, nil)
			if err := roundTrip(c, "hello"); err != nil {
				t.Errorf("in a new instance: %v", err)
			}
			if s, want := figuresOf(d), (figures{Instances: 1, Connections: 1, Failures: 1}); s != want {
				t.Errorf("%+v, want %+v", s, want)
			}
			// And in a set-up.
			if _, err := d.Dial(t.Context(), "tcp", address, fault("setup", name)); !broken(err) {
				t.Errorf("a set-up in which the instance fails: %v", err)
			}
			checkBroken(t, "bystander of a set-up", c)
			elsewhere()
		})
	}
}

// TestServerInstanceFails is the same for a listener.
func TestServerInstanceFails(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	l := listen(t, cfg)
	for i := range 2 {
		far := knock(t, l, nil)
		near, err := l.AcceptRuntime()
		if err != nil {
			t.Fatal(err)
		}
		go echo(far)
		if err := roundTrip(near, "hello"); err != nil {
			t.Error(err)
		}
		knock(t, l, fault("setup", "crash"))
		checkBroken(t, "bystander", near)
		awaitFigures(t, l, func(s figures) bool { return s.Failures == i+1 && s.Connections == 0 })
	}
}

// TestBackoff: after each failure in a row the next instance is started later, and a
// dial that cannot wait for it says what it is that failed.
func TestBackoff(t *testing.T) {
	d := manyDialer(t, testConfig(t, faults+inOne))
	address := echoServer(t)
	backoff := firstBackoff
	for i := range 4 {
		c := dial(t, d, address, fault("write", "exit"))
		began := time.Now()
		if _, err := io.WriteString(c, "now"); err != nil {
			t.Error(err)
		}
		<-c.Done()
		awaitFigures(t, d, func(s figures) bool { return s == figures{Failures: i + 1} })
		if err := roundTrip(dial(t, d, address, nil), "hello"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited < backoff {
			t.Errorf("after failure %d in a row, the next instance was there after %v, and not after %v", i+1, waited, backoff)
		}
		backoff *= 2
	}
	c := dial(t, d, address, fault("write", "exit"))
	if _, err := io.WriteString(c, "now"); err != nil {
		t.Error(err)
	}
	<-c.Done()
	awaitFigures(t, d, func(s figures) bool { return s.Failures == 5 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := d.Dial(ctx, "tcp", address, nil)
	if !errors.Is(err, ErrModule) || !strings.Contains(fmt.Sprint(err), "exited with status 3") {
		t.Errorf("a dial that gives up says %v", err)
	}
	// Nobody has to wait for an instance that is not needed any more.
	d.Close()
	if _, err := d.Dial(t.Context(), "tcp", address, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial after Close: %v", err)
	}
	d.pool.settle(t)
}

// TestStartFails: an instance that does not start fails the dials that wait for it,
// with what the module says.
func TestStartFails(t *testing.T) {
	for what, says := range map[string]string{
		"error": "the module says: this is the error that was asked for",
		"panic": "the module says: panic: as was asked for",
		"exit":  "exited with status 3",
		"crash": "wasm error: unreachable",
		"hang":  "the module was not ready in time",
		"spin":  "the module was not ready in time",
	} {
		for _, instances := range []int{1, InstancePerConn} {
			late := strings.HasSuffix(says, "in time")
			if late && instances == InstancePerConn {
				continue // that would take ProbeTimeout
			}
			t.Run(fmt.Sprint(what, instances), func(t *testing.T) {
				cfg := testConfig(t, faults)
				cfg.Instances = instances
				cfg.ModuleConfig = []byte(fault("start", what).String())
				if late {
					cfg.SetupTimeout = 200 * time.Millisecond
				}
				d := newDialer(t, cfg)
				_, err := d.Dial(t.Context(), "tcp", "127.0.0.1:9", nil)
				_, lerr := Listen(t.Context(), cfg, loopback(t))
				for how, err := range map[string]error{"Dial": err, "Start": d.Start(t.Context()), "Listen": lerr} {
					if err == nil || !strings.Contains(err.Error(), says) || !broken(err) && !errors.Is(err, ErrLimit) {
						t.Errorf("%s says %v, want %q", how, err, says)
					}
				}
				awaitInstances(t, cfg.Module, 0)
			})
		}
	}
}

// TestFrozen: a transport that computes for ever holds up its whole instance. Its
// connections can be ended all the same. SetupTimeout bounds how long the instance
// may leave what it is told unread; then it ends, with all of its connections.
func TestFrozen(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.SetupTimeout = 3 * time.Second
	address := echoServer(t)
	d := manyDialer(t, cfg)
	bystander := dial(t, d, address, nil)
	d.cfg.SetupTimeout = patience // the instance keeps what it was started with
	culprit, other := dial(t, d, address, fault("write", "spin")), dial(t, d, address, nil)
	if err := roundTrip(bystander, "hello"); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(culprit, "now"); err != nil {
		t.Error(err)
	}
	bystander.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := bystander.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading in the frozen instance: %v", err)
	}
	within(t, "Abort", func() { other.Abort() })
	if _, err := d.Dial(t.Context(), "tcp", address, nil); !broken(err) && !errors.Is(err, ErrLimit) {
		t.Errorf("a dial in the frozen instance: %v", err)
	}
	bystander.SetReadDeadline(time.Now().Add(patience))
	for what, c := range map[string]Conn{"bystander": bystander, "culprit": culprit} {
		within(t, what, func() { <-c.Done() })
		if err := c.Err(); !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "does not read") {
			t.Errorf("%s: it ended with %v", what, err)
		}
	}
	if err := roundTrip(dial(t, d, address, nil), "hello"); err != nil {
		t.Errorf("in a new instance: %v", err)
	}
}

// TestFrozenAtEnd: an instance that does not end when it is told to is stopped.
func TestFrozenAtEnd(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	cfg.DrainTimeout = 100 * time.Millisecond
	d := manyDialer(t, cfg)
	c := dial(t, d, echoServer(t), fault("write", "spin"))
	if _, err := io.WriteString(c, "now"); err != nil {
		t.Error(err)
	}
	c.Close()
	within(t, "the end of the connection", func() { <-c.Done() })
	d.Close()
	awaitInstances(t, cfg.Module, 0)
}
