package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// TestSharedConnection has three tors use one transport process, which each of them
// asks for a connection to the same bridge: with mux these go over one network
// connection, while all of them fetch something. With plain each has its own.
func TestSharedConnection(t *testing.T) {
	t.Parallel()
	const tors = 3
	for transport, right := range map[string]func(connections int) bool{
		"mux":   func(n int) bool { return n == 1 },
		"plain": func(n int) bool { return n >= tors }, // tor sometimes replaces one
	} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			web := startWeb(t, 8<<20)
			socket := metricsSocket(t)
			bridge := startBridge(ctx, t, tornet.BridgeOptions{Plugins: []tornet.Plugin{{
				Transports: []string{transport},
				Exec:       []string{waterproxy(t), "-metrics", "unix:" + socket},
			}}})
			clients := []*tornet.Client{startClient(ctx, t, tornet.ClientOptions{
				Plugins:     []tornet.Plugin{{Transports: []string{transport}, Exec: []string{waterproxy(t)}}},
				BridgeLines: bridge.Lines(),
			})}
			method := regexp.MustCompile(`CMETHOD ` + transport + ` socks5 ([0-9.:]+)`)
			found, err := clients[0].WaitLog(ctx, "pt.log", method)
			if err != nil {
				t.Fatal(err)
			}
			for len(clients) < tors {
				clients = append(clients, startClient(ctx, t, tornet.ClientOptions{
					BridgeLines: bridge.Lines(),
					Torrc:       []string{"ClientTransportPlugin " + transport + " socks5 " + found[1]},
				}))
			}

			stop := make(chan struct{})
			most := mostConnections(t, bridge.Address(transport), stop)
			var fetches sync.WaitGroup
			for _, client := range clients {
				fetches.Go(func() {
					if err := web.Download(ctx, client.HTTP(), nil); err != nil {
						t.Errorf("downloading through %s: %v", client.Name(), err)
					}
				})
			}
			fetches.Wait()
			close(stop)
			if got := <-most; !right(len(got)) {
				t.Errorf("there were up to %d network connections at once, from %v", len(got), slices.Collect(maps.Keys(got)))
			}
			if got := openConnections(ctx, t, socket, transport); got < tors {
				t.Errorf("the bridge's transport has %d connections open, want at least that of each tor", got)
			}
		})
	}
}

// mostConnections watches the established connections to an address until stop is
// closed, and sends the most that there were at once.
func mostConnections(t *testing.T, address string, stop <-chan struct{}) <-chan map[string]bool {
	result := make(chan map[string]bool, 1)
	go func() {
		var most map[string]bool
		defer func() { result <- most }()
		for {
			now, err := established(netip.MustParseAddrPort(address))
			if err != nil {
				t.Error(err)
				return
			}
			if len(now) > len(most) {
				most = now
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return result
}

// established returns the far ends of the connections that were accepted at an IPv4
// address and are up. The kernel may name one twice, if others come or go while the
// table is read.
func established(address netip.AddrPort) (map[string]bool, error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	remotes := map[string]bool{}
	ip := address.Addr().As4()
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), address.Port())
	for line := range bytes.Lines(table) {
		// sl local_address rem_address st ...; state 1 is ESTABLISHED.
		if field := strings.Fields(string(line)); len(field) > 3 && field[1] == local && field[3] == "01" {
			remotes[field[2]] = true
		}
	}
	return remotes, nil
}

// metricsSocket returns a path for a Unix socket.
func metricsSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "metrics")
}

// openConnections asks a transport process how many connections it carries.
func openConnections(ctx context.Context, t *testing.T, socket, transport string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://waterproxy/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	format := fmt.Sprintf("waterproxy_connections_open{transport=%q} %%d", transport)
	for s := bufio.NewScanner(response.Body); s.Scan(); {
		var n int
		if _, err := fmt.Sscanf(s.Text(), format, &n); err == nil {
			return n
		}
	}
	t.Fatal("the number of connections is not among the metrics")
	return 0
}
