package holder

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/bench/internal/oneside"
)

// plain is a library that does nothing.
var plain = Library{oneside.Direct, direct}

// running is a holder under test.
type running struct {
	t       *testing.T
	orders  *io.PipeWriter
	answers *bufio.Reader
	ended   chan error
}

func start(t *testing.T, lib Library, q Request) *running {
	t.Helper()
	argument, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	r := &running{t, orders, bufio.NewReader(answers), make(chan error, 1)}
	go func() {
		err := serve(t.Context(), []string{string(argument)}, lib, in, out)
		out.Close()
		r.ended <- err
	}()
	return r
}

func (r *running) answer() string {
	r.t.Helper()
	line, err := r.answers.ReadString('\n')
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// order gives an order without waiting for its answer.
func (r *running) order(text string) {
	r.t.Helper()
	if _, err := fmt.Fprintln(r.orders, text); err != nil {
		r.t.Fatal(err)
	}
}

// pair starts both sides, whose ends are dialed by the given library.
func pair(t *testing.T, dialing Library) (dialer, listener *running) {
	t.Helper()
	listener = start(t, plain, Request{})
	address, ok := strings.CutPrefix(listener.answer(), OK+" ")
	if !ok {
		t.Fatalf("the listener answered %q", address)
	}
	module := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dialer = start(t, dialing, Request{Module: module, Dial: address})
	if got := dialer.answer(); got != OK {
		t.Fatalf("the dialer answered %q", got)
	}
	return dialer, listener
}

func TestBothSidesHoldWhatIsOpened(t *testing.T) {
	dialer, listener := pair(t, plain)
	for _, order := range []string{"open 1", "open 20", "open 20", "check", "check"} {
		listener.order(order)
		dialer.order(order)
		for name, side := range map[string]*running{"dialer": dialer, "listener": listener} {
			if got := side.answer(); got != OK {
				t.Errorf("%s, %s: answer %q", order, name, got)
			}
		}
	}
	for name, side := range map[string]*running{"dialer": dialer, "listener": listener} {
		side.orders.Close()
		if err := <-side.ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheListenerWaits: it has not opened what it has not accepted.
func TestTheListenerWaits(t *testing.T) {
	dialer, listener := pair(t, plain)
	listener.order("open 2")
	answered := make(chan string, 1)
	go func() { answered <- listener.answer() }()
	dialer.order("open 1")
	if got := dialer.answer(); got != OK {
		t.Fatal(got)
	}
	select {
	case got := <-answered:
		t.Fatalf("answer %q with one connection of two", got)
	case <-time.After(50 * time.Millisecond):
	}
	dialer.order("open 2")
	if got := dialer.answer(); got != OK {
		t.Fatal(got)
	}
	if got := <-answered; got != OK {
		t.Error(got)
	}
}

// lying is a connection that changes bytes from the second on.
type lying struct {
	net.Conn
	honest bool
}

func (c *lying) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.honest {
		b[0] ^= 1
	}
	c.honest = false
	return n, err
}

func TestFailuresAreAnswers(t *testing.T) {
	library := func(dial oneside.Dialer, err error) Library {
		return Library{func(context.Context, oneside.Setting) (oneside.Dialer, error) { return dial, err }, direct}
	}
	dialer, _ := pair(t, library(func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("refused\nby the test")
	}, nil))
	for order, want := range map[string]string{"open 3": "error refused; by the test", "sing": "sing", "open": "open"} {
		dialer.order(order)
		if got := dialer.answer(); !strings.HasPrefix(got, Failed) || !strings.Contains(got, want) {
			t.Errorf("%s: answer %q, want one with %q", order, got, want)
		}
	}
	dialer, listener := pair(t, library(func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := net.Dial(network, address)
		return &lying{c, true}, err
	}, nil))
	dialer.order("open 1")
	if got := dialer.answer(); got != OK {
		t.Fatal(got)
	}
	listener.order("open 1")
	listener.answer()
	listener.order("check")
	dialer.order("check")
	if got := dialer.answer(); !strings.HasPrefix(got, Failed) {
		t.Errorf("other bytes came back, and the answer is %q", got)
	}
	broken := start(t, library(nil, errors.New("cannot compile")), Request{Module: os.DevNull, Dial: "x"})
	if got := broken.answer(); !strings.Contains(got, "cannot compile") {
		t.Errorf("answer %q", got)
	}
	for _, args := range [][]string{nil, {"{"}, {`{"module": "/nonexistent"}`}} {
		if err := serve(t.Context(), args, plain, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
