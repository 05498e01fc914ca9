//go:build unix

package self

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// kills is how often TestKilled kills a process; the seed draws the moments.
var (
	kills    = flag.Int("faults.kills", 3, "how often TestKilled kills a process")
	killSeed = flag.Uint64("faults.killseed", 1, "of the moments")
)

// TestKilled: kill -9 of either side, at any moment, costs the connections of that side and
// nothing else. Whatever a server was about to write, the next one reads its state and has
// the same bridge line; connections of other processes go on.
func TestKilled(t *testing.T) {
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	echo := echoServer(t)
	stop := bystander(t, echo)
	state := warmState(t)
	server := func() *process {
		return start(t, nil, "server", "-transport", "obfs4", "-state", state, "-listen", "127.0.0.1:0", "-forward", echo, "-log-level", "debug")
	}
	line := func(p *process) (address, rest string) {
		words := strings.SplitN(p.Line(`^Bridge obfs4 \S+ (.*)$`)[0], " ", 4)
		return words[2], words[3]
	}
	first := server()
	_, want := line(first)
	first.End()
	for n := range *kills {
		if rng.IntN(20) == 0 { // what is compiled anew is also interrupted
			if err := os.RemoveAll(filepath.Join(state, "compiled")); err != nil {
				t.Fatal(err)
			}
		}
		p := server()
		if rng.IntN(2) == 0 {
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
			p.End()
		} else {
			address, _ := line(p)
			client := start(t, nil, "client", "-state", stateDir, "-forward", "127.0.0.1:0", "Bridge obfs4 "+address+" "+want)
			carried := transfer(t, client.Line(`^TCP forward at (\S+)$`)[1])
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
			if rng.IntN(2) == 0 {
				p.End()
			} else {
				client.End()
			}
			select {
			case <-carried:
			case <-time.After(pttest.Patience):
				t.Fatalf("kill %d: a connection does not learn that the process is gone", n)
			}
			client.End()
			p.End()
		}
		again := server()
		if _, got := line(again); got != want {
			t.Fatalf("kill %d: the bridge line is %q, and was %q", n, got, want)
		}
		again.End()
	}
	stop()
}

// transfer sends without end to an echo, and closes what it returns when the connection is
// over.
func transfer(t *testing.T, address string) (over chan struct{}) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	over = make(chan struct{})
	go func() {
		defer close(over)
		defer conn.Close()
		go func() {
			for buf := make([]byte, 16<<10); ; {
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}()
		_, _ = io.Copy(io.Discard, conn)
	}()
	return over
}

// bystander keeps a connection of other processes busy until it is stopped.
func bystander(t *testing.T, echo string) (stop func()) {
	t.Helper()
	server := start(t, nil, "server", "-transport", "plain", "-state", stateDir, "-listen", "127.0.0.1:0", "-forward", echo)
	client := start(t, nil, "client", "-state", stateDir, "-forward", "127.0.0.1:0", server.Line(`^Bridge plain .*$`)[0])
	conn, err := net.Dial("tcp", client.Line(`^TCP forward at (\S+)$`)[1])
	if err != nil {
		t.Fatal(err)
	}
	halt, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1000)
		for {
			select {
			case <-halt:
				return
			default:
			}
			err := conn.SetDeadline(time.Now().Add(pttest.Patience))
			if err == nil {
				_, err = conn.Write(buf)
			}
			if err == nil {
				_, err = io.ReadFull(conn, buf)
			}
			if err != nil {
				t.Errorf("a connection of other processes: %v", err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() {
		close(halt)
		<-done
		conn.Close()
		server.Send(syscall.SIGTERM)
		client.Send(syscall.SIGTERM)
	}
}
