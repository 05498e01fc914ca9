package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

var (
	soakTime      = flag.Duration("soak.time", 3*time.Minute, "how long TestSoak makes connections")
	soakOpen      = flag.Int("soak.open", 2000, "connections that TestSoak holds open")
	soakTransport = flag.String("soak.transport", "obfs4", "the transport of TestSoak and TestSilent; obfs4proxy is that program")
)

// soakPair is a client and a server without tor.
type soakPair struct {
	client, server *pttest.Process
	public         string // where the server listens
	socks          string // where a client serves SOCKS5
	dial           func() (net.Conn, error)
}

// startSoakPair starts them. What goes through arrives at an address.
func startSoakPair(t *testing.T, transport, backend string) soakPair {
	t.Helper()
	if transport == theirs {
		return startRivals(t, backend)
	}
	state := warmState(t, transport)
	server := startCommand(t, "server", "-transport", transport, "-state", state, "-listen", "127.0.0.1:0", "-forward", backend)
	line := server.Line(`^Bridge \S+ (\S+).*$`)
	client := startCommand(t, "client", "-state", state, "-forward", "127.0.0.1:0", line[0])
	entrance := client.Line(`^TCP forward at (\S+)$`)[1]
	return soakPair{client, server, line[1], startStandaloneClient(t, state, line[0]), func() (net.Conn, error) { return net.Dial("tcp", entrance) }}
}

// startRivals starts two processes of obfs4proxy, to see what these do.
func startRivals(t *testing.T, backend string) soakPair {
	t.Helper()
	lab := newObfs4Lab(t)
	server := obfs4Server{Process: lab.launch(t, theirs, t.TempDir(), ptproc.Server("", backend, "obfs4"))}
	client := obfs4Client{lab.launch(t, theirs, t.TempDir(), ptproc.Client("", "obfs4"))}
	at, args := server.address(), server.bridgeArgs()
	return soakPair{client.Process, server.Process, at, client.address(), func() (net.Conn, error) { return client.connect(at, args) }}
}

// echoes sends back what comes, until the test ends, and returns where.
func echoes(t *testing.T) string {
	t.Helper()
	l := pttest.Listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for buf := make([]byte, 2<<10); ; {
					n, err := conn.Read(buf)
					if err == nil {
						_, err = conn.Write(buf[:n])
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// passes sends some bytes and reads them back.
func passes(conn net.Conn, rng *rand.Rand) error {
	sent := make([]byte, 1+rng.IntN(4<<10))
	for i := range sent {
		sent[i] = byte(rng.Uint32())
	}
	if err := conn.SetDeadline(time.Now().Add(pttest.Patience)); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() { _, err := conn.Write(sent); written <- err }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("of %d bytes: %w", len(sent), err)
	}
	if !bytes.Equal(got, sent) {
		return errors.New("other bytes come back")
	}
	return <-written
}

// TestSoak makes connections for a long time, and holds many of them open. No byte is lost,
// and once as many are open as there are to be, the processes do not grow.
func TestSoak(t *testing.T) { // not beside the others of this package: private Tor networks need a processor to be in time
	if runtime.GOOS != "linux" {
		t.Fatal("memory is read from /proc")
	}
	p := startSoakPair(t, *soakTransport, echoes(t))
	held := make(chan net.Conn, *soakOpen)
	var made, failed atomic.Int64
	end := time.Now().Add(*soakTime)
	var workers sync.WaitGroup
	for n := range 32 {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 0))
			for time.Now().Before(end) && failed.Load() == 0 {
				conn, err := p.dial()
				if err == nil {
					err = passes(conn, rng)
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("connection %d: %v", made.Load(), err)
					return
				}
				made.Add(1)
				for kept := false; !kept; {
					select {
					case held <- conn:
						kept = true
					default: // another one makes room
						select {
						case old := <-held:
							if err := passes(old, rng); err != nil {
								failed.Add(1)
								t.Errorf("a connection that was open for long: %v", err)
							}
							old.Close()
						default:
						}
					}
				}
			}
		})
	}
	sizes := map[string][]float64{}
	for time.Now().Before(end) && failed.Load() == 0 {
		time.Sleep(time.Second) // a sample each, and no event that a test waits for
		sizes["client"] = append(sizes["client"], float64(rss(t, p.client)))
		sizes["server"] = append(sizes["server"], float64(rss(t, p.server)))
	}
	workers.Wait()
	open := len(held)
	close(held)
	for conn := range held {
		conn.Close()
	}
	for side, all := range sizes {
		half := all[len(all)/2:]
		growth := slope(half) * float64(len(half))
		first := mean(half[:max(1, len(half)/10)])
		t.Logf("%s of %s: %d connections, %d open at a time, in %v; RSS %.0f MiB in the middle, %+.1f MiB by the line through the last half (%+.1f%%)",
			side, *soakTransport, made.Load(), open, *soakTime, first/(1<<20), growth/(1<<20), 100*growth/first)
		// The collector's heap goes up and down by more than a leak of one byte for each
		// connection does.
		if growth > first/10 {
			t.Errorf("the %s grows by %.0f MiB in the last half", side, growth/(1<<20))
		}
	}
}

// rss returns the resident memory of a process, in bytes.
func rss(t *testing.T, p *pttest.Process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func mean(v []float64) (sum float64) {
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// slope returns that of the line of least squares through samples.
func slope(v []float64) float64 {
	x, y := float64(len(v)-1)/2, mean(v)
	var above, below float64
	for i, value := range v {
		above += (float64(i) - x) * (value - y)
		below += (float64(i) - x) * (float64(i) - x)
	}
	if below == 0 {
		return 0
	}
	return above / below
}

// TestSilent: thousands of connections that say nothing, at a bridge's public port, and
// slow ones at a client's SOCKS port, cost others nothing, and are gone in time.
func TestSilent(t *testing.T) {
	t.Parallel() // it waits for limits of time
	backend := echoes(t)
	p := startSoakPair(t, *soakTransport, backend)
	silent := openMany(t, p.public, 5000, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	others(t, "beside silent connections", p, rng)

	slow := openMany(t, p.socks, 1000, []byte{5})
	others(t, "beside slow SOCKS connections", p, rng)
	began := time.Now()
	await(t, "slow SOCKS connections", slow)
	t.Logf("slow SOCKS connections are gone after %v", time.Since(began).Round(time.Second))
	await(t, "silent connections", silent)
	t.Logf("silent connections are gone after %v", time.Since(began).Round(time.Second))
	others(t, "when they are gone", p, rng)
}

// openMany makes connections that send no more than the first bytes, and returns what is
// done when the other side has ended each.
func openMany(t *testing.T, address string, n int, first []byte) *sync.WaitGroup {
	t.Helper()
	var ended sync.WaitGroup
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write(first); err != nil {
			t.Fatal(err)
		}
		ended.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	}
	return &ended
}

func await(t *testing.T, what string, ended *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { ended.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(pttest.Patience):
		t.Fatalf("%s are not ended", what)
	}
}

// others makes connections that are as usual.
func others(t *testing.T, when string, p soakPair, rng *rand.Rand) {
	t.Helper()
	for range 20 {
		conn, err := p.dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := passes(conn, rng); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		conn.Close()
	}
}
