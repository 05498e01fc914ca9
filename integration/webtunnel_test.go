package integration

import (
	"encoding/json"
	"net"
	"os/exec"
	"slices"
	"testing"

	"waterproxy/internal/examine"
	"waterproxy/internal/tornet"
)

// TestWebtunnelTor has a tor bridge behind nginx, by our webtunnel, and tor clients that use
// it by ours and by lyrebird, with the bridge line that tor has written and the pin of the
// certificate.
func TestWebtunnelTor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	front := net.JoinHostPort(freeAddress(t))
	_, cert, key := certificate(t, "127.0.0.1")
	bridge := startBridge(ctx, t, tornet.BridgeOptions{
		Plugins:          []tornet.Plugin{{Transports: []string{"webtunnel"}, Exec: []string{waterproxy(t)}}},
		TransportOptions: map[string]string{"webtunnel": "url=https://" + front + "/secret"},
		ExtORPort:        true,
	})
	_, port, err := net.SplitHostPort(bridge.Address("webtunnel"))
	if err != nil {
		t.Fatal(err)
	}
	frontNginx(t, front, map[string]string{"secret": port}, cert, key)
	line, err := bridge.Line("webtunnel")
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{waterproxy(t), peer(t, newer)} {
		fetch(ctx, t, web, startClient(ctx, t, tornet.ClientOptions{
			Plugins:     []tornet.Plugin{{Transports: []string{"webtunnel"}, Exec: []string{client}}},
			BridgeLines: []string{line + " cert=" + pinOf(t, cert)},
		}))
	}
}

// TestWebtunnelExamined: without a flag the transport is examined as a web server of its own,
// which to an observer is a web server that Chrome opens WebSockets at.
func TestWebtunnelExamined(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(testContext(t), waterproxy(t), "examine", "-json", "-n", "9", "-probes", "2", "-probe-time", "2s", "-no-cost", "webtunnel").Output()
	if err != nil {
		t.Fatal(err)
	}
	var r examine.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.First.Exempt != 9 || r.First.ByRule["Ex5"] != 9 || r.Flows != 9 || r.Lengths.RoundTrips != 2 {
		t.Errorf("%+v, %d flows, %d round trips", r.First, r.Flows, r.Lengths.RoundTrips)
	}
	if r.TLS == nil || r.TLS.Flows != 9 || !slices.Contains(r.TLS.Clients, "Chrome 156 for wss://") {
		t.Errorf("TLS: %+v", r.TLS)
	}
	for _, result := range r.Probes.Results {
		if result.Probe == "an HTTP request" && result.Answered != 2 {
			t.Errorf("%+v", result)
		}
	}
}
