//go:build unix

package demo

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	pt "gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/pttest"
)

// The test's own binary is the transport that it launches. The first argument
// says how it behaves.
const (
	behaveWell      = "well"
	refuse          = "refuse"      // report an error instead of a listener
	quit            = "quit"        // end at once
	say             = "say-nothing" // never say where it listens
	stay            = "stay"        // ignore every request to end
	lackMetrics     = "lack-metrics"
	lackCounter     = "lack-counter"
	loseConnections = "lose-connections"
)

// pidsVariable names the folder in which each transport leaves its process
// number.
const pidsVariable = "DEMO_TEST_PIDS"

// secret is an argument that the server's end hands to clients; it holds every
// character that is escaped on the way.
const secret = `a,b;c=d\e`

func TestMain(m *testing.M) {
	if os.Getenv("TOR_PT_MANAGED_TRANSPORT_VER") != "" {
		if err := fakeTransport(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pttest.Run(m))
}

// carriedBytes are counted by the client's end.
var carriedBytes struct{ toNetwork, fromNetwork atomic.Int64 }

func fakeTransport(behaviour string, args []string) error {
	if dir := os.Getenv(pidsVariable); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
			return err
		}
	}
	if behaviour == stay {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	}
	var err error
	switch {
	case behaviour == quit:
		return fmt.Errorf("no reason to live")
	case behaviour == say:
	case os.Getenv("TOR_PT_SERVER_TRANSPORTS") != "":
		err = fakeServer(behaviour)
	default:
		err = fakeClient(behaviour, args)
	}
	if err != nil {
		return err
	}
	if behaviour == stay {
		select {}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func fakeServer(behaviour string) error {
	info, err := pt.ServerSetup(nil)
	if err != nil {
		return err
	}
	for _, bind := range info.Bindaddrs {
		if behaviour == refuse {
			return pt.SmethodError(bind.MethodName, "does not want to")
		}
		l, err := net.ListenTCP("tcp", bind.Addr)
		if err != nil {
			return err
		}
		args := pt.Args{}
		args.Add("secret", secret)
		go serveFake(l, func(conn net.Conn) error {
			or, err := pt.DialOr(&info, conn.RemoteAddr().String(), bind.MethodName)
			if err != nil {
				return err
			}
			return join(conn, or, false)
		})
		pt.SmethodArgs(bind.MethodName, l.Addr(), args)
	}
	pt.SmethodsDone()
	return nil
}

func fakeClient(behaviour string, args []string) error {
	info, err := pt.ClientSetup(nil)
	if err != nil {
		return err
	}
	if err := serveMetrics(behaviour, args, info.MethodNames[0]); err != nil {
		return err
	}
	for _, name := range info.MethodNames {
		l, err := pt.ListenSocks("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go serveFake(l, func(conn net.Conn) error {
			socks := conn.(*pt.SocksConn)
			if got, _ := socks.Req.Args.Get("secret"); got != secret || behaviour == loseConnections {
				return socks.Reject()
			}
			remote, err := net.Dial("tcp", socks.Req.Target)
			if err != nil {
				return err
			}
			if err := socks.Grant(nil); err != nil {
				return err
			}
			return join(conn, remote, true)
		})
		pt.Cmethod(name, l.Version(), l.Addr())
	}
	pt.CmethodsDone()
	return nil
}

func serveMetrics(behaviour string, args []string, transport string) error {
	at := slices.Index(args, "-metrics")
	if behaviour == lackMetrics || at < 0 {
		return nil
	}
	l, err := net.Listen("unix", strings.TrimPrefix(args[at+1], "unix:"))
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE waterproxy_bytes_total counter\n")
		fmt.Fprintf(w, "waterproxy_bytes_total{transport=%q,direction=\"to_network\"} %d\n",
			transport, carriedBytes.toNetwork.Load())
		if behaviour != lackCounter {
			fmt.Fprintf(w, "waterproxy_bytes_total{transport=%q,direction=\"from_network\"} %d\n",
				transport, carriedBytes.fromNetwork.Load())
		}
	}))
	return nil
}

type accepter[C net.Conn] interface{ Accept() (C, error) }

func serveFake[C net.Conn](l accepter[C], handle func(net.Conn) error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if err := handle(conn); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
}

// join copies both ways; the first end ends both.
func join(local, remote net.Conn, count bool) error {
	var both sync.WaitGroup
	pass := func(to, from net.Conn, sum *atomic.Int64) {
		defer to.Close()
		defer from.Close()
		var into io.Writer = to
		if count {
			into = io.MultiWriter(counting{sum}, to)
		}
		io.Copy(into, from)
	}
	both.Go(func() { pass(remote, local, &carriedBytes.toNetwork) })
	both.Go(func() { pass(local, remote, &carriedBytes.fromNetwork) })
	both.Wait()
	return nil
}

type counting struct{ sum *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.sum.Add(int64(len(p)))
	return len(p), nil
}
