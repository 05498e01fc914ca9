package integration

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/internal/tornet"
	"waterproxy/transport"
)

// startWebServer starts a server of webtunnel at an address, with a table [web] and a url.
func startWebServer(t *testing.T, state, address, url, settings string, more ptproc.Variables) *pttest.Process {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "webtunnel.toml"), []byte("[web]\n"+settings))
	variables := ptproc.Server("", "", "webtunnel").WithOptions("webtunnel", transport.Args{"url": {url}}).With(ptproc.Variables{
		"TOR_PT_SERVER_BINDADDR": "webtunnel-" + address, "TOR_PT_STATE_LOCATION": state,
	}).With(more)
	return startProgram(t, waterproxy(t), variables, "-modules", dir)
}

// TestWebtunnelItself has a bridge of webtunnel be its own web server: the clients of others
// and ours come through it to the ORPort, and everybody else gets the pages. Behind nginx it
// tells tor the addresses that nginx has seen.
func TestWebtunnelItself(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	run(t, "ip", "address", "add", webHost+"/32", "dev", "lo")
	clientPrograms, _ := webtunnelPrograms(t)
	_, cert, key := certificate(t, webHost)
	site, state := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(site, "index.html"), []byte("Recipes"))

	const address = webHost + ":8443"
	orPort := listenLoopback(t).(*net.TCPListener)
	server := startWebServer(t, state, address, "https://"+address+"/secret", fmt.Sprintf("certificate = '%s'\nkey = '%s'\nsite = '%s'\nhttp2 = false\n", cert, key, site),
		ptproc.Variables{"TOR_PT_ORPORT": orPort.Addr().String()})
	line := server.Line(`^SMETHOD webtunnel (\S+) ARGS:(\S+)`)

	behind := net.JoinHostPort(freeAddress(t))
	secret := bytes.Repeat([]byte{7}, 32)
	cookie := filepath.Join(t.TempDir(), "cookie")
	writeFile(t, cookie, append([]byte(pttest.CookieHeader), secret...))
	extended := listenLoopback(t).(*net.TCPListener)
	startWebServer(t, state, behind, "https://"+webHost+":8444/secret", "trusted-proxies = ['127.0.0.1']\n", ptproc.Variables{
		"TOR_PT_ORPORT": "", "TOR_PT_EXTENDED_SERVER_PORT": extended.Addr().String(), "TOR_PT_AUTH_COOKIE_FILE": cookie,
	}).Line(`^SMETHOD webtunnel `)
	_, port, err := net.SplitHostPort(behind)
	if err != nil {
		t.Fatal(err)
	}
	frontNginx(t, webHost+":8444", map[string]string{"secret": port}, cert, key)

	for _, name := range []string{ours, newer, standalone} {
		client := startProgram(t, clientPrograms[name], ptproc.Client(state, "webtunnel")).Address("webtunnel")
		t.Run(name, func(t *testing.T) {
			bridge := transport.Args{"url": {"https://" + address + "/secret"}, "cert": {pinOf(t, cert)}}
			if name != standalone {
				bridge["utls"] = []string{"hellochrome_auto"} // which offers HTTP/2
			}
			args := ptargs.Format(bridge)
			near := socksTCP(t, client, args, line[1])
			exchangeBoth(t, near, acceptTCP(t, orPort), 4<<20)
		})
		t.Run(name+" by nginx", func(t *testing.T) {
			args := ptargs.Format(transport.Args{"url": {"https://" + webHost + ":8444/secret"}, "cert": {pinOf(t, cert)}})
			near := socksTCP(t, client, args, "[2001:db8::1]:443")
			far := acceptTCP(t, extended)
			tor := &pttest.ExtORPort{Cookie: secret}
			if err := tor.Serve(far); err != nil {
				t.Fatal(err)
			}
			if got, want := tor.Commands[1], webHost+":60000"; got != want {
				t.Errorf("USERADDR is %s, want %s", got, want)
			}
			exchangeBoth(t, near, far, 4<<20)
		})
	}
	// Those who do not know the secret, or do not upgrade it.
	web := http.Client{Timeout: pttest.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for path, want := range map[string]string{"/": "200 Recipes", "/secret": "404 404 page not found\n", "/other": "404 404 page not found\n"} {
		resp, err := web.Get("https://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if got := fmt.Sprint(resp.StatusCode, " ", string(text)); errors.Join(err, resp.Body.Close()) != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

// TestWebtunnelTorItself has a tor bridge that is its own web server, with the options and
// the folder of modules in torrc, and a tor client that fetches a file through it.
func TestWebtunnelTorItself(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	_, cert, key := certificate(t, "127.0.0.1")
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "webtunnel.toml"), fmt.Appendf(nil, "[web]\ncertificate = '%s'\nkey = '%s'\n", cert, key))
	bridge := startBridge(ctx, t, tornet.BridgeOptions{
		Plugins:          []tornet.Plugin{{Transports: []string{"webtunnel"}, Exec: []string{waterproxy(t), "-modules", dir}}},
		TransportOptions: map[string]string{"webtunnel": "url=https://127.0.0.1/secret"},
		ExtORPort:        true,
	})
	line, err := bridge.Line("webtunnel")
	if err != nil {
		t.Fatal(err)
	}
	fetch(ctx, t, web, startClient(ctx, t, tornet.ClientOptions{
		Plugins:     []tornet.Plugin{{Transports: []string{"webtunnel"}, Exec: []string{waterproxy(t)}}},
		BridgeLines: []string{line + " cert=" + pinOf(t, cert) + " addr=" + bridge.Address("webtunnel")},
	}))
}
