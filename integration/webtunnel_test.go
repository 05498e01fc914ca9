package integration

import (
	"net"
	"testing"

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
