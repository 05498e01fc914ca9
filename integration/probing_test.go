package integration

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"waterproxy/transport"
)

var probes = flag.Int("probes", 2, "how often each prober tries, at once; from 10 on with a longer delay, as for the table of docs/probing.md")

// probe is what somebody does who has an address and wants to know what is there.
type probe struct {
	name      string
	sends     []byte
	halfClose bool
}

// probesOf returns all of them. handshake is one that the server has answered before.
func probesOf(handshake []byte) []probe {
	random := func(n int) []byte {
		b := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
		return b
	}
	flipped := slices.Clone(handshake)
	flipped[len(flipped)-1] ^= 1
	half := handshake[:len(handshake)/2]
	return []probe{
		{"nothing", nil, false},
		{"100 random bytes", random(100), false},
		{"8191 random bytes", random(8191), false},
		{"8192 random bytes", random(8192), false},
		{"100 000 random bytes", random(100_000), false},
		{"half a handshake", half, false},
		{"a handshake with one bit flipped", flipped, false},
		{"a handshake and one byte more", append(slices.Clone(handshake), 0), false},
		{"a handshake that was seen before", handshake, false},
		{"nothing, half-close", nil, true},
		{"100 random bytes, half-close", random(100), true},
		{"100 000 random bytes, half-close", random(100_000), true},
		{"half a handshake, half-close", half, true},
		{"a handshake that was seen before, half-close", handshake, true},
	}
}

// outcome is what a prober sees.
type outcome struct {
	after time.Duration
	end   string // FIN, RST, or what else
}

// try probes a server once.
func (p probe) try(address string) outcome {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return outcome{end: err.Error()}
	}
	defer conn.Close()
	begin := time.Now()
	conn.SetDeadline(begin.Add(2 * obfs4Patience))
	if _, err = conn.Write(p.sends); err == nil && p.halfClose {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	var n int64
	if err == nil {
		n, err = io.Copy(io.Discard, conn)
	}
	o := outcome{after: time.Since(begin)}
	switch {
	case n > 0:
		o.end = fmt.Sprintf("%d bytes", n)
	case err == nil && (p.halfClose || refusesMore(conn)):
		o.end = "FIN"
	case err == nil:
		o.end = "FIN of one direction"
	case errors.Is(err, syscall.ECONNRESET):
		o.end = "RST"
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.end = "nothing"
	default:
		o.end = err.Error()
	}
	return o
}

// refusesMore tells a connection whose peer has closed it from one that the peer still
// reads.
func refusesMore(conn net.Conn) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := conn.Write([]byte{0}); err != nil {
			return true
		}
	}
	return false
}

// target is a server, and what its probers see.
type target struct {
	name, address string
	probes        []probe

	mu   sync.Mutex
	seen map[string][]outcome // by the name of the probe
}

func newTarget(name, address string, probes []probe) *target {
	return &target{name: name, address: address, probes: probes, seen: map[string][]outcome{}}
}

// try starts a number of probers at once.
func (g *target) try(running *sync.WaitGroup, times int, p probe) {
	for range times {
		running.Go(func() {
			result := p.try(g.address)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.seen[p.name] = append(g.seen[p.name], result)
		})
	}
}

// describe says when and how the connections of a probe ended.
func describe(list []outcome) string {
	if len(list) == 0 {
		return "never tried"
	}
	slices.SortFunc(list, func(a, b outcome) int { return cmp.Compare(a.after, b.after) })
	ends := map[string]int{}
	for _, o := range list {
		ends[o.end]++
	}
	var kinds []string
	for end, n := range ends {
		kinds = append(kinds, fmt.Sprintf("%s (%d)", end, n))
	}
	slices.Sort(kinds)
	return fmt.Sprintf("%.2f – %.2f – %.2f s, %s", list[0].after.Seconds(), list[len(list)/2].after.Seconds(),
		list[len(list)-1].after.Seconds(), strings.Join(kinds, ", "))
}

// agree compares what probers see of two servers. A second is more than a network
// lets anybody tell.
func agree(a, b []outcome) bool {
	const tolerance = time.Second
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	for _, x := range a {
		for _, y := range b {
			if x.end != y.end || (x.after-y.after).Abs() > tolerance {
				return false
			}
		}
	}
	return true
}

// TestProbing probes our server and obfs4proxy with the same keys, which make the same
// delay: what one does to a prober the other does as well. When our instance is full,
// and when it fails, a prober sees nothing else. With -probes 100 this makes the table
// of docs/probing.md.
func TestProbing(t *testing.T) {
	t.Parallel()
	keys, delay := obfs4Keys, handshakePatience+2*time.Second
	if *probes >= 10 {
		keys, delay = strings.Replace(keys, seedTwoSeconds, seedTwentyThree, 1), handshakePatience+23*time.Second
	}
	lab := newObfs4Lab(t)
	client := lab.client(t, theirs)
	var servers []obfs4Server
	var targets []*target
	for _, program := range []string{theirs, ours} {
		record := recordHandshake(t, client, lab.server(t, program, lab.state(t), keys))
		servers = append(servers, record.server)
		targets = append(targets, newTarget(program, record.server.address(), probesOf(record.handshake)))
	}
	few := slices.DeleteFunc(probesOf(make([]byte, 2)), func(p probe) bool { return !strings.HasPrefix(p.name, "100 random") })
	full, failing := fullObfs4(t, lab, client, keys), failingObfs4(t, lab, keys)
	targets = append(targets, newTarget("ours, full", full.Addr().String(), few))

	// What is closed at once is tried one kind after the other, so that no server is
	// busy with others. Who has to wait for half a minute waits with everybody else.
	var waiting sync.WaitGroup
	for _, halfClose := range []bool{true, false} {
		for _, g := range targets {
			for _, p := range g.probes {
				if p.halfClose == halfClose {
					g.try(&waiting, *probes, p)
				}
				if halfClose {
					waiting.Wait()
				}
			}
		}
	}
	broken := newTarget("ours, failing", failing.Addr().String(), few[:1])
	broken.try(&waiting, max(*probes, crowd), few[0])
	waiting.Wait()

	right := targets[0].seen
	for _, g := range append(targets[1:], broken) {
		for _, p := range g.probes {
			t.Logf("| %s | %s | %s | %s |", p.name, g.name, describe(right[p.name]), describe(g.seen[p.name]))
			if !agree(g.seen[p.name], right[p.name]) {
				t.Errorf("%s: %s can be told from %s", p.name, g.name, theirs)
			}
		}
	}
	for _, o := range right[few[0].name] {
		if (o.after - delay).Abs() > time.Second {
			t.Fatalf("%s keeps a connection for %v, want %v: the keys do not make that delay", theirs, o.after, delay)
		}
	}
	if got := full.Stats(); got.Instances != 1 || got.Failures != 0 {
		t.Errorf("the server that was to be full has %+v", got)
	}
	if got := failing.Stats(); got.Failures == 0 {
		t.Error("the instance that was to fail has not")
	}
	for _, server := range servers {
		server.checkUnused(t)
	}
}

// parseKeys makes server arguments of the text.
func parseKeys(keys string) transport.Args {
	args := transport.Args{}
	for pair := range strings.SplitSeq(keys, ";") {
		name, value, _ := strings.Cut(pair, "=")
		args[name] = []string{value}
	}
	return args
}

// fullObfs4 starts a server whose instance has room for one connection, and takes it.
func fullObfs4(t *testing.T, lab *obfs4Lab, client obfs4Client, keys string) *transport.Listener {
	t.Helper()
	listener := listenObfs4(t, lab, transport.Config{MaxConns: 1, Args: parseKeys(keys)})
	near, err := client.connect(listener.Addr().String(), listener.Args().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return listener
}

// crowd is more connections than an instance of failingObfs4 has memory for.
const crowd = 200

// failingObfs4 starts a server whose instance has so little memory that it fails with
// the connections of a crowd.
func failingObfs4(t *testing.T, lab *obfs4Lab, keys string) *transport.Listener {
	t.Helper()
	return listenObfs4(t, lab, transport.Config{MaxMemory: 8 << 20, Args: parseKeys(keys)})
}
