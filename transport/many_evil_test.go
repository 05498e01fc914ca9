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

// evilMany is the test module that abuses the control descriptor.
const evilMany = "evil_many_v1"

// evilManyConfig has small limits, so that what hangs is over soon.
func evilManyConfig(t testing.TB, way string, want fate, layer error) Config {
	cfg := evilConfig(t, evilMany+inOne, want, layer)
	cfg.ModuleConfig = []byte(way)
	cfg.MaxDescriptors = 8
	t.Cleanup(func() { awaitInstances(t, cfg.Module, 0) }) // they log to the test's output
	return cfg
}

// reported reads a module's report, which ends in a line of its own.
func reported(t *testing.T, c net.Conn) string {
	t.Helper()
	var all strings.Builder
	for {
		line := readLine(t, c)
		if line == "end" {
			return all.String()
		}
		fmt.Fprintln(&all, line)
	}
}

// refusals are what the host says to bytes that are no record: EINVAL, or EFAULT to
// what is not in memory.
const refusals = `nothing: 0
one byte: 28
zeros: 28
many zeros: 28
noise: 28
half a record: 28
a long record: 28
an endless record: 28
an unknown kind: 28
the host's kind: 28
no memory: 21
`

// TestEvilMany has a client abuse the control descriptor. Whatever comes of that, no
// connection elsewhere suffers, and the instance can be ended.
func TestEvilMany(t *testing.T) {
	stop := witness(t)
	defer stop()
	for way, want := range map[string]struct {
		fate   fate  // lives, or unborn, or hangs: it is up, and need not do anything
		layer  error // of what is unborn; nil if it depends on who comes first
		report string
	}{
		"none":            {fate: lives},
		"garbage":         {fate: lives, report: refusals},
		"unknown":         {fate: lives},
		"instance":        {fate: lives},
		"early":           {fate: lives},
		"ready twice":     {fate: lives},
		"accept shared":   {fate: lives},
		"host calls":      {fate: lives, report: "dial: -58\naccept: -58\n"},
		"close others":    {fate: lives},
		"keep":            {fate: lives},
		"storm":           {fate: lives, report: "dialed: 7\n"},
		"accept":          {fate: lives},
		"fail twice":      {fate: unborn, layer: ErrModule},
		"close early":     {fate: unborn, layer: ErrModule},
		"endless storm":   {fate: unborn, layer: ErrModule},
		"block":           {fate: unborn, layer: ErrLimit},
		"close control":   {fate: unborn, layer: ErrLimit},
		"deaf":            {fate: unborn, layer: ErrLimit},
		"trap":            {fate: unborn, layer: ErrTrap},
		"return":          {fate: unborn, layer: ErrModule},
		"return an error": {fate: unborn},
		"return at once":  {fate: unborn},
		"renumber":        {fate: hangs},
		"onto control":    {fate: hangs},
	} {
		t.Run(way, func(t *testing.T) {
			cfg := evilManyConfig(t, way, want.fate, want.layer)
			if way == "storm" { // nobody ends the connections that it leaves
				cfg.DrainTimeout = 300 * time.Millisecond
			}
			d, l := manyDialer(t, cfg), loopback(t)
			var near Conn
			var err error
			within(t, "dialing", func() {
				near, err = d.Dial(t.Context(), "tcp", l.Addr().String(), nil)
			})
			if want.fate == unborn {
				if err == nil || want.layer != nil && !errors.Is(err, want.layer) {
					t.Errorf("dialing says %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want.report != "" {
				if got := reported(t, near); got != want.report {
					t.Errorf("the module reports %s", got)
				}
			}
			if want.fate == lives {
				far := acceptLast(t, l)
				if err := carries(near, far, "a line of text"); err != nil {
					t.Error(err)
				}
				far.Close()
			}
			within(t, "Close", func() { near.Close() })
			within(t, "ending after Close", func() { <-near.Done() })
		})
	}
}

// acceptLast returns the connection that is still there of those that were dialed.
func acceptLast(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			c.SetReadDeadline(time.Time{})
			return c
		}
	}
}

// TestEvilManyServer is the same for a server. What it accepts, it can be asked to
// splice, even if it has no right to it.
func TestEvilManyServer(t *testing.T) {
	stop := witness(t)
	defer stop()
	for way, want := range map[string]fate{
		"none":            lives,
		"garbage":         lives,
		"accept and dial": lives,
		"accept twice":    lives,
		"accept shared":   hangs, // its connections have nothing to carry
		"ready":           unborn,
		"close early":     unborn,
		"return an error": unborn,
	} {
		t.Run(way, func(t *testing.T) {
			l := listen(t, evilManyConfig(t, way, want, ErrLimit))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			far, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			if want == lives {
				near, err := l.AcceptRuntime()
				if err != nil {
					t.Fatal(err)
				}
				if way == "garbage" {
					if got := reported(t, near); got != refusals {
						t.Errorf("the module reports %s", got)
					}
				}
				if err := carries(near, far.(duplex), "a line of text"); err != nil {
					t.Error(err)
				}
				far.Close()
				within(t, "Abort", func() { near.Abort() })
				return
			}
			accepted := make(chan struct{})
			go func() {
				defer close(accepted)
				for {
					c, err := l.AcceptRuntime()
					if err != nil {
						return
					}
					if want == unborn {
						t.Error("it was accepted")
					}
					inner, outer := tcpPair(t)
					go c.Splice(inner)
					outer.Close()
				}
			}()
			_, _ = io.WriteString(far, "something")
			if want == unborn {
				far.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, far); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection is still there")
				}
			}
			far.Close()
			l.Close()
			<-accepted
			for _, s := range l.ledger.sessions() {
				s.abort()
			}
			awaitFigures(t, l, func(s figures) bool { return s == figures{Failures: s.Failures} })
		})
	}
}

// TestEvilManyEnd: an instance that ignores its end is stopped.
func TestEvilManyEnd(t *testing.T) {
	cfg := evilManyConfig(t, "stay", lives, nil)
	d := manyDialer(t, cfg)
	if err := roundTrip(dial(t, d, echoServer(t), nil), "hello"); err != nil {
		t.Error(err)
	}
	d.Close()
}

// TestEvilManyOthers: a module that closes the descriptors of its other connections
// ends those, and no more.
func TestEvilManyOthers(t *testing.T) {
	d, address := manyDialer(t, evilManyConfig(t, "close others", lives, nil)), echoServer(t)
	for range 3 {
		victim := dial(t, d, address, nil)
		if err := roundTrip(victim, "hello"); err != nil {
			t.Error(err)
		}
		if err := roundTrip(dial(t, d, address, nil), "hello"); err != nil {
			t.Error(err)
		}
		within(t, "the end of the other", func() { <-victim.Done() })
	}
	awaitFigures(t, d, func(s figures) bool { return s.Instances == 1 && s.Failures == 0 })
}
