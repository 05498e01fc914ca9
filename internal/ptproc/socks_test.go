package ptproc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestSOCKSAuth(t *testing.T) {
	for length, want := range map[int]string{
		1:   "\x01\x03k=x\x01\x00",
		254: "\x01\xffk=" + strings.Repeat("x", 253) + "\x01x",
	} {
		got, err := socksAuth(map[string][]string{"k": {strings.Repeat("x", length)}})
		if err != nil || string(got) != want {
			t.Errorf("%d bytes: got %q, %v; want %q", length, got, err, want)
		}
	}
	if got, err := socksAuth(map[string][]string{"k": {strings.Repeat("x", 1000)}}); err == nil {
		t.Errorf("more than there is room for: got %q", got)
	}
}

func TestSOCKSRequest(t *testing.T) {
	for target, want := range map[string][]byte{
		"127.0.0.1:258":        {5, 1, 0, 1, 127, 0, 0, 1, 1, 2},
		"[::1]:80":             {5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80},
		"[::ffff:10.0.0.1]:80": {5, 1, 0, 1, 10, 0, 0, 1, 0, 80},
	} {
		got, err := socksRequest(target)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got % x, %v; want % x", target, got, err, want)
		}
	}
	if _, err := socksRequest("localhost:80"); err == nil {
		t.Error("a name was accepted; tor sends addresses to a transport")
	}
}

func TestReadSOCKSReply(t *testing.T) {
	const after = "payload"
	for name, reply := range map[string]string{
		"IPv4": "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
		"IPv6": "\x05\x00\x00\x04" + strings.Repeat("\x00", 18),
		"name": "\x05\x00\x00\x03\x04host\x00\x00",
	} {
		r := strings.NewReader(reply + after)
		if err := readSOCKSReply(r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != after {
			t.Errorf("%s: %q, %v is left, want %q", name, rest, err, after)
		}
	}
	var refused socksReply
	if err := readSOCKSReply(strings.NewReader("\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00")); !errors.As(err, &refused) || refused != 4 {
		t.Errorf("got %v, want reply 4", err)
	}
	for _, bad := range []string{"", "\x04\x00\x00\x01", "\x05\x00\x00\x09", "\x05\x00\x00\x01\x00"} {
		if err := readSOCKSReply(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestDial has a conversation with a proxy that checks what it is sent.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			for _, step := range []struct{ expect, answer string }{
				{"\x05\x01\x02", "\x05\x02"},
				{"\x01\x03k=v\x01\x00", "\x01\x00"},
				{"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x07", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00first"},
			} {
				got := make([]byte, len(step.expect))
				if _, err := io.ReadFull(c, got); err != nil {
					return err
				}
				if string(got) != step.expect {
					return errors.New("unexpected: " + string(got))
				}
				if _, err := io.WriteString(c, step.answer); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, l.Addr().String(), "127.0.0.1:7", map[string][]string{"k": {"v"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "first" {
		t.Errorf("got %q, %v after the handshake, want %q", got, err, "first")
	}
}

// TestDialEndsWithItsContext: a proxy that never answers must not hold it up.
func TestDialEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			cancel()
			<-t.Context().Done()
		}
	}()
	if _, err := Dial(ctx, l.Addr().String(), "127.0.0.1:7", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
