package meter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/transport"
)

// source is a dialer whose connections have carried something.
type source struct {
	mu sync.Mutex
	st transport.Stats
}

func (c *source) Stats() transport.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st
}

func (c *source) carry(out, in int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.st.ToNetwork += out
	c.st.FromNetwork += in
	c.st.FromCaller += 1000 * out // which is not what is shown
	c.st.ToCaller += 1000 * in
}

var quiet = slog.New(slog.DiscardHandler)

// shown returns the figures as they are served.
func shown(t *testing.T, m *Meter) map[string]string {
	t.Helper()
	socket := tempSocket(t)
	stop, err := m.Serve("unix:"+socket, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	body := get(t, "unix", socket)
	all := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		name, value, ok := strings.Cut(s.Text(), "} ")
		if !ok {
			t.Fatalf("malformed: %q", s.Text())
		}
		all[strings.TrimPrefix(name, "waterproxy_")+"}"] = value
	}
	return all
}

// tempSocket returns a path that is short enough for a socket.
func tempSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func get(t *testing.T, network, address string) string {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
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
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(body)
}

func TestFigures(t *testing.T) {
	m := New()
	if got := shown(t, m); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	bytes := &source{}
	m.Offer("a", bytes)
	m.Offer("b", &source{})
	want := map[string]string{}
	for _, name := range []string{"a", "b"} {
		want[fmt.Sprintf(`bytes_total{direction="to_network",transport=%q}`, name)] = "0"
		want[fmt.Sprintf(`bytes_total{direction="from_network",transport=%q}`, name)] = "0"
		want[fmt.Sprintf(`host_calls_total{kind="cryptography",transport=%q}`, name)] = "0"
		want[fmt.Sprintf(`host_calls_total{kind="other",transport=%q}`, name)] = "0"
		for _, outcome := range []string{"finished", "failed", "refused"} {
			want[fmt.Sprintf(`connections_total{outcome=%q,transport=%q}`, outcome, name)] = "0"
		}
		for _, metric := range []string{"connections_open", "instances", "instance_memory_bytes", "traps_total", "limits_total"} {
			want[fmt.Sprintf(`%s{transport=%q}`, metric, name)] = "0"
		}
	}
	check := func(when string) {
		t.Helper()
		got := shown(t, m)
		maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, "setup_seconds") })
		if !maps.Equal(got, want) {
			t.Errorf("%s:\n%v, want\n%v", when, got, want)
		}
	}
	check("offered")

	endFirst, endSecond := m.Begin("a", 0), m.Begin("a", 0)
	bytes.carry(11, 22)
	want[`bytes_total{direction="to_network",transport="a"}`] = "11"
	want[`bytes_total{direction="from_network",transport="a"}`] = "22"
	want[`connections_open{transport="a"}`] = "2"
	check("two open")

	bytes.carry(100, 0)
	endFirst(nil)
	want[`bytes_total{direction="to_network",transport="a"}`] = "111"
	want[`connections_open{transport="a"}`] = "1"
	want[`connections_total{outcome="finished",transport="a"}`] = "1"
	check("one ended")

	endSecond(errors.New("x"))
	m.Refuse("a")
	m.Refuse("a")
	want[`connections_open{transport="a"}`] = "0"
	want[`connections_total{outcome="failed",transport="a"}`] = "1"
	want[`connections_total{outcome="refused",transport="a"}`] = "2"
	check("both ended")

	m.Offer("a", bytes) // again changes nothing
	check("offered again")

	bytes.mu.Lock()
	failures := transport.Stats{Instances: 2, Memory: 3 << 20, Refused: 4, Traps: 5, Limits: 6, HostCalls: 15, CryptoCalls: 7}
	failures.ConnStats = bytes.st.ConnStats
	bytes.st = failures
	bytes.mu.Unlock()
	want[`instances{transport="a"}`] = "2"
	want[`instance_memory_bytes{transport="a"}`] = "3.145728e+06"
	want[`connections_total{outcome="refused",transport="a"}`] = "6"
	want[`traps_total{transport="a"}`] = "5"
	want[`limits_total{transport="a"}`] = "6"
	want[`host_calls_total{kind="cryptography",transport="a"}`] = "7"
	want[`host_calls_total{kind="other",transport="a"}`] = "8"
	check("instances")

	m.Offer("a", &source{st: transport.Stats{Instances: 10}}) // at another address
	want[`instances{transport="a"}`] = "12"
	check("a second source")
}

// TestHammer has connections come and go while the figures are read.
func TestHammer(t *testing.T) {
	m := New()
	m.Offer("a", &source{})
	const workers, rounds = 8, 100
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range rounds {
				end := m.Begin("a", 0)
				shown(t, m)
				if i%2 == 0 {
					end(errors.New("x"))
				} else {
					end(nil)
				}
			}
		})
	}
	wg.Wait()
	got := shown(t, m)
	for key, want := range map[string]string{
		`connections_open{transport="a"}`:                     "0",
		`connections_total{outcome="finished",transport="a"}`: "400",
		`connections_total{outcome="failed",transport="a"}`:   "400",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %s", key, got[key], want)
		}
	}
}
