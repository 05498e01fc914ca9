package self

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// figures asks for the metrics and returns those that are this program's.
func figures(t *testing.T, network, address string) map[string]float64 {
	t.Helper()
	client := http.Client{Timeout: pttest.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	resp, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	all := map[string]float64{}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		name, text, _ := strings.Cut(s.Text(), "} ")
		if !strings.HasPrefix(name, "waterproxy_") {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		all[strings.TrimPrefix(name, "waterproxy_")+"}"] = value
	}
	return all
}

// The counters of both sides add up to what was carried.
func TestMetrics(t *testing.T) {
	dir, err := os.MkdirTemp("", "wp") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "metrics")
	loopback := pttest.FreeAddress(t)
	flags := modulesFlags("t", "plain_v1", "idle", "plain_v1", "trap", "evil_trap_worker_v1")
	orPort := pttest.Listen(t)
	client := launch(t, clientVariables("t,idle,trap"), append(flags, "-metrics", "unix:"+socket)...)
	server := launch(t, serverVariables("t,idle", orPort.Addr().String()), append(flags, "-metrics", loopback)...)
	p := &pair{client: client, server: server, orPort: orPort, name: "t"}
	client.ready()
	server.ready()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v; want mode 0600", info, err)
	}

	// A clean connection, with bytes both ways.
	near, far := p.connect(t)
	const up, down = 300_000, 200_000
	go send(near, random(up)) // an error shows in what arrives
	if got := receive(far); got != digest(random(up)) {
		t.Fatal(got)
	}
	go send(far, random(down))
	if got := receive(near); got != digest(random(down)) {
		t.Fatal(got)
	}
	near.Close()
	far.Close()
	// One that stays open.
	openNear, openFar := p.connect(t)
	if err := pttest.Exchange(crossed{openNear, openFar}, []byte("12345"), []byte("12345")); err != nil {
		t.Fatal(err)
	}
	// One that is refused, and one that its module fails.
	pttest.Ask(t, client.Address("t"), pttest.DeadAddress(t), "")
	sink := pttest.Listen(t)
	failing := pttest.Connect(t, client.Address("trap"), sink.Addr().String())
	sunk := pttest.Accept(t, sink)
	go failing.Write(make([]byte, 64<<10)) // an error is to be expected
	pttest.AwaitClose(t, failing)
	pttest.AwaitClose(t, sunk)
	sunk.Close()
	failing.Close() // or the proxy would wait for it

	for _, test := range []struct {
		network, address string
		want             map[string]float64
	}{
		{"unix", socket, map[string]float64{
			`bytes_total{direction="to_network",transport="t"}`:    up + 5,
			`bytes_total{direction="from_network",transport="t"}`:  down,
			`bytes_total{direction="to_network",transport="idle"}`: 0,
			`connections_open{transport="t"}`:                      1,
			`connections_open{transport="idle"}`:                   0,
			`connections_open{transport="trap"}`:                   0,
			`connections_total{outcome="finished",transport="t"}`:  1,
			`connections_total{outcome="refused",transport="t"}`:   1,
			`connections_total{outcome="failed",transport="trap"}`: 1,
		}},
		{"tcp", loopback, map[string]float64{
			`bytes_total{direction="to_network",transport="t"}`:   down,
			`bytes_total{direction="from_network",transport="t"}`: up + 5,
			`connections_open{transport="t"}`:                     1,
			`connections_open{transport="idle"}`:                  0,
			`connections_total{outcome="finished",transport="t"}`: 1,
		}},
	} {
		// A connection's end is counted a moment after its peers see it.
		deadline := time.Now().Add(pttest.Patience)
		for {
			got := figures(t, test.network, test.address)
			var wrong []string
			for name, want := range test.want {
				if value, ok := got[name]; !ok || value != want {
					wrong = append(wrong, name)
				}
			}
			if len(wrong) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%q are not as expected:\n%v, want\n%v", wrong, got, test.want)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}

	client.CloseStdin()
	client.Wait(pttest.EndLimit)
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// A socket that a killed process left is no obstacle.
func TestMetricsStaleSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "wp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "metrics")
	flags := append(module("t", "plain_v1"), "-metrics", "unix:"+socket)
	first := start(t, clientVariables("t"), flags...)
	first.ready()
	if err := first.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.Exited()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal(err) // or this test shows nothing
	}
	launch(t, clientVariables("t"), flags...).ready()
	figures(t, "unix", socket)
}

// Other paths and methods are not served.
func TestMetricsOnly(t *testing.T) {
	address := pttest.FreeAddress(t)
	launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...).ready()
	for method, path := range map[string]string{"GET": "/debug/pprof/", "POST": "/metrics"} {
		req, err := http.NewRequest(method, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s %s: %s", method, path, resp.Status)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
