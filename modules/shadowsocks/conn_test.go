package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	library "github.com/Jigsaw-Code/outline-sdk/transport/shadowsocks"

	"waterproxy/watm"
)

const password = "correct-horse"

// passwordOf is one that fits a method.
func passwordOf(m *method) string {
	if m.edition2022 {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, m.keySize))
	}
	return password
}

// eachMethod runs a test with the arguments for each method.
func eachMethod(t *testing.T, test func(t *testing.T, m *method, a watm.Args)) {
	for i := range methods {
		m := &methods[i]
		t.Run(m.name, func(t *testing.T) {
			test(t, m, args("password", passwordOf(m), "cipher", m.name, "target", "192.0.2.7:443"))
		})
	}
}

func newServer(t *testing.T, a watm.Args) *shadowsocks {
	t.Helper()
	s := new(shadowsocks)
	if err := s.configure(a); err != nil {
		t.Fatal(err)
	}
	return s
}

// wires returns the two ends of a connection.
func wires(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{c, s} {
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func newClient(t *testing.T, wire watm.Conn, a watm.Args) net.Conn {
	t.Helper()
	c, err := new(shadowsocks).Client(t.Context(), wire, a)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve runs a server on a connection.
func serve(t *testing.T, s *shadowsocks, wire watm.Conn) net.Conn {
	t.Helper()
	c, err := s.Server(t.Context(), wire)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func closeWrite(c net.Conn) error { return c.(watm.Conn).CloseWrite() }

// Both ways at once, in writes of many sizes, by Read and by WriteTo, to the end of
// each.
func TestCarry(t *testing.T) {
	eachMethod(t, func(t *testing.T, m *method, a watm.Args) {
		near, far := wires(t)
		client := newClient(t, near, a)
		up, down := random(1<<20+1), random(3<<20+m.maxChunk())
		results := make(chan error, 4)
		write := func(c net.Conn, b []byte) {
			for size := 1; len(b) > 0; size = size*3%(200<<10) + 1 {
				n := min(size, len(b))
				if _, err := c.Write(b[:n]); err != nil {
					results <- err
					return
				}
				b = b[n:]
			}
			results <- closeWrite(c)
		}
		go write(client, up)
		server := serve(t, newServer(t, a), far)
		go write(server, down)
		go func() {
			got, err := io.ReadAll(server)
			if !bytes.Equal(got, up) {
				err = errors.Join(err, errors.New("what came up is not what was sent"))
			}
			results <- err
		}()
		go func() {
			var got bytes.Buffer
			_, err := client.(io.WriterTo).WriteTo(&got)
			if !bytes.Equal(got.Bytes(), down) {
				err = errors.Join(err, errors.New("what came down is not what was sent"))
			}
			results <- err
		}()
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// writes remembers each write to a connection, and the last deadline.
type writes struct {
	watm.Conn
	all      [][]byte
	deadline time.Time
}

func (w *writes) SetReadDeadline(d time.Time) error {
	w.deadline = d
	return w.Conn.SetReadDeadline(d)
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, bytes.Clone(p))
	return w.Conn.Write(p)
}

// What a client writes at once leaves together with the salt and the header. The
// server's patience ends with that.
func TestFirstWrite(t *testing.T) {
	near, far := wires(t)
	recorded := &writes{Conn: near}
	a := args("password", password, "target", "192.0.2.7:443")
	client := newClient(t, recorded, a)
	client.(*conn).out.timer.Stop() // however long this test takes to write
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	accepted := &writes{Conn: far}
	server := serve(t, newServer(t, a), accepted)
	if !accepted.deadline.IsZero() {
		t.Errorf("the connection has the deadline %v", accepted.deadline)
	}
	if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	const salt, tag, length, header = 32, 16, 2, 7
	if len(recorded.all) != 1 || len(recorded.all[0]) != salt+length+tag+header+len("hello")+tag {
		t.Errorf("the client wrote %d times, %d bytes at first", len(recorded.all), len(recorded.all[0]))
	}
}

// A client that waits for the server to speak gets through as well.
func TestServerSpeaksFirst(t *testing.T) { eachMethod(t, testServerSpeaksFirst) }

func testServerSpeaksFirst(t *testing.T, _ *method, a watm.Args) {
	near, far := wires(t)
	client := newClient(t, near, a)
	server := serve(t, newServer(t, a), far)
	if _, err := io.WriteString(server, "welcome"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "welcome" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := io.WriteString(client, "thanks"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, got[:6]); err != nil || string(got[:6]) != "thanks" {
		t.Fatalf("%q, %v", got[:6], err)
	}
}

// A client that has nothing to send says so, and still gets the answer; a server
// that has none leaves the client with a clean end.
func TestEndsWithoutBytes(t *testing.T) { eachMethod(t, testEndsWithoutBytes) }

func testEndsWithoutBytes(t *testing.T, _ *method, a watm.Args) {
	for _, answer := range []string{"", "so be it"} {
		near, far := wires(t)
		client := newClient(t, near, a)
		if err := closeWrite(client); err != nil {
			t.Fatal(err)
		}
		server := serve(t, newServer(t, a), far)
		if b, err := io.ReadAll(server); err != nil || len(b) > 0 {
			t.Fatalf("the server got %q, %v", b, err)
		}
		if _, err := io.WriteString(server, answer); err != nil {
			t.Fatal(err)
		}
		if err := closeWrite(server); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(client); err != nil || string(b) != answer {
			t.Errorf("the client got %q, %v; want %q", b, err, answer)
		}
	}
}

// firstBytes is what a client begins with.
func firstBytes(t *testing.T, a watm.Args) []byte {
	t.Helper()
	near, _ := wires(t)
	recorded := &writes{Conn: near}
	client := newClient(t, recorded, a)
	client.(*conn).out.timer.Stop() // as in TestFirstWrite
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	return recorded.all[0]
}

// Whatever a prober sends, and however much, it sees the same: nothing, until the
// time is up, and then the end.
func TestSilence(t *testing.T) {
	a := args("password", password)
	s := newServer(t, a)
	near, far := wires(t)
	genuine := firstBytes(t, a)
	if _, err := near.Write(genuine); err != nil {
		t.Fatal(err)
	}
	answer := &writes{Conn: far}
	server := serve(t, s, answer)
	if _, err := server.Write([]byte{1, 192, 0, 2, 7, 1, 187}); err != nil { // it looks like a header
		t.Fatal(err)
	}

	s.silence = 300 * time.Millisecond // of the probes

	changed := func(i int) []byte {
		b := firstBytes(t, a)
		b[i] ^= 1
		return b
	}
	probeAll(t, s, map[string][]byte{
		"nothing":                    nil,
		"one byte":                   random(1),
		"a salt":                     random(32),
		"a salt and a length":        random(50),
		"much":                       random(300 << 10),
		"a good beginning":           firstBytes(t, a)[:40],
		"a good salt and length":     firstBytes(t, a)[:50],
		"all but the last byte":      firstBytes(t, a)[:len(firstBytes(t, a))-1],
		"a changed salt":             changed(0),
		"a changed length":           changed(33),
		"a changed payload":          changed(60),
		"another password":           firstBytes(t, args("password", "other")),
		"another cipher":             firstBytes(t, args("password", password, "cipher", "aes-256-gcm")),
		"an address of unknown type": stream(t, a, []byte{9, 1, 2, 3, 4, 5, 6}),
		"no whole address":           stream(t, a, []byte{1, 2, 3}),
		"a client's replay":          genuine,
		"the server's own stream":    answer.all[0],
	})
}

// probeAll expects a server to be silent to each probe, and to take none for a client. It
// returns before that is over.
func probeAll(t *testing.T, s *shadowsocks, probes map[string][]byte) {
	for name, probe := range probes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := wires(t)
			go func() {
				if _, err := s.Server(t.Context(), far); err == nil {
					t.Error("the server takes it for a client")
				}
				far.Close() // as the SDK does
			}()
			began := time.Now()
			if _, err := near.Write(probe); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, near)
			if took := time.Since(began); n > 0 || err != nil || took < s.silence*9/10 {
				t.Errorf("after %v the prober got %d bytes and %v", took, n, err)
			}
		})
	}
}

// stream is what a peer that has the password sends to say b.
func stream(t *testing.T, a watm.Args, b []byte) []byte {
	t.Helper()
	key, err := library.NewEncryptionKey("chacha20-ietf-poly1305", a["password"][0])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := library.NewWriter(&out, key).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A connection that the host gives up does not wait for the rest of the time.
func TestGivenUp(t *testing.T) {
	near, far := wires(t)
	s := newServer(t, args("password", password))
	if _, err := near.Write(random(100)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Server(ctx, far)
		ended <- err
	}()
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
}

// After a good beginning, a stream that is not whole is an error on either side, and
// no end that looks like a clean one.
func TestDamagedStream(t *testing.T) { eachMethod(t, testDamagedStream) }

func testDamagedStream(t *testing.T, _ *method, a watm.Args) {
	for name, damage := range map[string]func([]byte) []byte{
		"garbled": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut off": func(b []byte) []byte { return b[:len(b)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := wires(t)
			recorded := &writes{Conn: near}
			client := newClient(t, recorded, a)
			if _, err := io.WriteString(client, "good"); err != nil {
				t.Fatal(err)
			}
			server := serve(t, newServer(t, a), far)
			if _, err := io.ReadFull(server, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			// The next chunk goes to the recorder alone.
			other, _ := wires(t)
			recorded.Conn = other
			if _, err := io.WriteString(client, "bad"); err != nil {
				t.Fatal(err)
			}
			if _, err := near.Write(damage(recorded.all[1])); err != nil {
				t.Fatal(err)
			}
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(server); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || len(b) > 0 {
				t.Errorf("the server got %q, %v", b, err)
			}
		})
	}
}

// A server's silence is the same after a new start, and within its bounds; another key has
// another.
func TestSilenceOfKey(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 100 {
		key := []byte{byte(i), 1, 2}
		silence := silenceOf(key)
		if silence != silenceOf(key) || silence < minSilence || silence >= maxSilence {
			t.Fatalf("%v, then %v", silence, silenceOf(key))
		}
		seen[silence] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 keys have %d silences", len(seen))
	}
}
