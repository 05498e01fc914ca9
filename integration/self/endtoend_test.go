package self

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// pair is both sides of a transport, with the test in tor's place at both ends.
type pair struct {
	client, server *process
	orPort         net.Listener
	name           string
}

func startPair(t *testing.T, name string, flags ...string) *pair {
	t.Helper()
	return startPairIn(t, stateDir, name, flags...)
}

// startPairIn is startPair with a state directory.
func startPairIn(t *testing.T, state, name string, flags ...string) *pair {
	t.Helper()
	orPort := pttest.Listen(t)
	in := ptproc.Variables{"TOR_PT_STATE_LOCATION": state}
	client := launch(t, clientVariables(name).With(in), flags...)
	client.ready() // and has compiled the module, so that the other side need not
	server := launch(t, serverVariables(name, orPort.Addr().String()).With(in), flags...)
	return &pair{client: client, server: server, orPort: orPort, name: name}
}

// connect returns both ends of a new connection.
func (p *pair) connect(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	near = pttest.Connect(t, p.client.Address(p.name), p.server.Address(p.name))
	return near, pttest.Accept(t, p.orPort)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// receive reads to the end and returns the SHA-256, or what went wrong.
func receive(c io.Reader) string {
	h := sha256.New()
	if n, err := io.Copy(h, c); err != nil {
		return fmt.Sprintf("%v after %d bytes", err, n)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// send writes everything and then ends its direction.
func send(c *net.TCPConn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.CloseWrite()
}

// The built-in transport, from end to end.
func TestPlain(t *testing.T) {
	p := startPair(t, "plain")

	t.Run("both ways at once", func(t *testing.T) {
		near, far := p.connect(t)
		up, down := random(6<<20), random(5<<20)
		results := make(chan error, 4)
		check := func(c io.Reader, want []byte) {
			if got := receive(c); got != digest(want) {
				results <- fmt.Errorf("received %s, want %s", got, digest(want))
				return
			}
			results <- nil
		}
		go func() { results <- send(near, up) }()
		go func() { results <- send(far, down) }()
		go check(near, down)
		go check(far, up)
		for range 4 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})

	// One side says that it has no more to send, sees that the other side has
	// learnt it, and goes on receiving.
	t.Run("half-close", func(t *testing.T) {
		for _, first := range []string{"near", "far"} {
			near, far := p.connect(t)
			if first == "far" {
				near, far = far, near
			}
			request, answer := random(100_000), random(2<<20)
			if err := send(near, request); err != nil {
				t.Fatal(err)
			}
			if got := receive(far); got != digest(request) {
				t.Errorf("%s first: request %s, want %s", first, got, digest(request))
			}
			go send(far, answer) // an error shows in what arrives
			if got := receive(near); got != digest(answer) {
				t.Errorf("%s first: answer %s, want %s", first, got, digest(answer))
			}
		}
	})

	// A side that closes right after its last byte loses none.
	t.Run("write and close", func(t *testing.T) {
		for _, first := range []string{"near", "far"} {
			for range 3 {
				near, far := p.connect(t)
				if first == "far" {
					near, far = far, near
				}
				text := random(1 << 20)
				go func() {
					near.Write(text) // an error shows in what arrives
					near.Close()
				}()
				if got := receive(far); got != digest(text) {
					t.Errorf("%s closes: received %s, want %s", first, got, digest(text))
				}
			}
		}
	})

	// A connection without a byte ends at both sides, too.
	t.Run("nothing", func(t *testing.T) {
		near, far := p.connect(t)
		near.Close()
		pttest.AwaitClose(t, far)
		near, far = p.connect(t)
		far.Close()
		pttest.AwaitClose(t, near)
	})

	// A reset at one end reaches the other as some end, in time.
	t.Run("reset", func(t *testing.T) {
		for _, first := range []string{"near", "far"} {
			near, far := p.connect(t)
			if first == "far" {
				near, far = far, near
			}
			pttest.Echo(t, near, far)
			if err := near.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			near.Close()
			pttest.AwaitClose(t, far)
		}
	})

	t.Run("many", func(t *testing.T) {
		const n = 12
		results := make(chan error, n)
		for i := range n {
			near, far := p.connect(t)
			text := random(100_000 + i)
			go func() { io.Copy(far, far); far.CloseWrite() }() // an error shows in what arrives
			go func() {
				go send(near, text)
				if got := receive(near); got != digest(text) {
					results <- fmt.Errorf("connection %d: %s", i, got)
					return
				}
				results <- nil
			}()
		}
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})

	// When the peer's process dies, the ends here learn it and the proxy lives.
	t.Run("server killed", func(t *testing.T) {
		near, far := p.connect(t)
		pttest.Echo(t, near, far)
		if err := p.server.Cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		pttest.AwaitClose(t, near)
		pttest.AwaitClose(t, far)
		p.server.Wait(pttest.EndLimit) // a listener may outlive the connections by a moment
		if _, code := pttest.Ask(t, p.client.Address("plain"), p.server.Address("plain"), ""); code != pttest.ReplyRefused {
			t.Errorf("reply %d for a bridge that is gone, want %d", code, pttest.ReplyRefused)
		}
		echoThrough(t, p.client.Address("plain"))
	})
}

// Modules of one ABI talk to themselves, through a real handshake in one case.
func TestPairs(t *testing.T) {
	for _, name := range []string{"plain_v0", "framed_v1", "posix_xor_v1"} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, name, module(name, name)...)
			near, far := p.connect(t)
			text := random(1 << 20)
			go func() {
				if err := send(near, text); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
			}()
			if got := receive(far); got != digest(text) {
				t.Errorf("received %s, want %s", got, digest(text))
			}
		})
	}
}
