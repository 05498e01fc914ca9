package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"waterproxy/internal/pttest"
	"waterproxy/internal/webfront"
)

// TestFront: what asks for an upgrade at /PORT gets to that port, and the bytes after the
// answer pass unchanged. The certificate is the one that the pin names.
func TestFront(t *testing.T) {
	backend := pttest.Listen(t)
	go func() {
		conn, err := backend.Accept()
		if err != nil {
			return // the test has ended
		}
		defer conn.Close()
		head := bufio.NewReader(conn)
		request, err := http.ReadRequest(head)
		if err != nil || request.Header.Get("Upgrade") != "websocket" {
			return // which the other end sees
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, head) // an error shows at the other end
	}()

	f, err := startFront(t.Context(), t.TempDir(), launch{timeout: pttest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	})
	pinned := func(state tls.ConnectionState) error {
		if webfront.PinOf(state.PeerCertificates[0].Raw) != f.pin {
			t.Error("the certificate is another one")
		}
		return nil
	}
	conn, err := tls.Dial("tcp", f.address, &tls.Config{ServerName: webfront.Name, InsecureSkipVerify: true, VerifyConnection: pinned})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(pttest.Patience)); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(backend.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /"+port+" HTTP/1.1\r\nHost: "+webfront.Name+"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answered := bufio.NewReader(conn)
	response, err := http.ReadResponse(answered, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the answer is %v, %v", response, err)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(answered, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}
