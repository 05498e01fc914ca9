package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"waterproxy/internal/crowd"
	"waterproxy/transport"
)

// say sends to a connection and returns the answer, of so many bytes.
func say(t *testing.T, c net.Conn, text string, size int) []byte {
	t.Helper()
	answer := make([]byte, size)
	_, err := io.WriteString(c, text)
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// come connects to a proxy.
func come(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Those who connect and ask for nothing make room for others; who has asked stays.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	loading, load := make(chan struct{}), make(chan error)
	p := open(t, transport.NewLazyDialer(func(context.Context) error {
		close(loading)
		return <-load
	}), Tor{}, slog.New(slog.DiscardHandler))
	p.asking = crowd.New(1, 0)
	p.conns.Go(p.acceptLoop)
	asked := come(t, p)
	say(t, asked, "\x05\x01\x00", 2)
	if _, err := io.WriteString(asked, "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x09"); err != nil {
		t.Fatal(err)
	}
	<-loading
	silent := come(t, p)
	last := come(t, p)
	if _, err := io.Copy(io.Discard, silent); err != nil {
		t.Errorf("the silent one: %v", err)
	}
	say(t, last, "\x05\x01\x00", 2)
	load <- errors.New("x")
	if got := say(t, asked, "", 10)[1]; got != 1 {
		t.Errorf("reply %d to the one that asked, want 1", got)
	}
}
