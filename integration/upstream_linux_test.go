package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/tornet"
	"waterproxy/transport"
)

// realProxy is a proxy as Debian has it.
type realProxy struct {
	start func(t *testing.T, host, port string) (stop func())
	url   string // TOR_PT_PROXY, with ADDRESS in it
}

const (
	// Nothing of it is escaped, as tor does not either.
	socksUser, socksPassword = "us%er", "p@ss/w:rd@"
	httpUser, httpPassword   = "user", "pass-1"
)

func microsocks(args ...string) func(*testing.T, string, string) func() {
	return func(t *testing.T, host, port string) func() {
		return startDaemon(t, net.JoinHostPort(host, port), "microsocks", append(args, "-i", host, "-p", port)...)
	}
}

func tinyproxy(lines ...string) func(*testing.T, string, string) func() {
	return func(t *testing.T, host, port string) func() {
		t.Helper()
		file := filepath.Join(t.TempDir(), "tinyproxy.conf")
		text := fmt.Sprintf("Listen %s\nPort %s\nTimeout 600\nMaxClients 50\n%s\n", host, port, strings.Join(lines, "\n"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return startDaemon(t, net.JoinHostPort(host, port), "tinyproxy", "-d", "-c", file)
	}
}

var realProxies = map[string]realProxy{
	"microsocks":           {microsocks(), "socks5://ADDRESS"},
	"microsocks, password": {microsocks("-u", socksUser, "-P", socksPassword), "socks5://" + socksUser + ":" + socksPassword + "@ADDRESS"},
	"tinyproxy":            {tinyproxy(), "http://ADDRESS"},
	"tinyproxy, password":  {tinyproxy("BasicAuth " + httpUser + " " + httpPassword), "http://" + httpUser + ":" + httpPassword + "@ADDRESS"},
}

// TestNothingPastProxy runs clients in a network from which only the upstream proxy can
// be reached. What wants to go elsewhere has no route, and the kernel counts it.
func TestNothingPastProxy(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	const bridgeHost = "10.201.0.1"
	run(t, "ip", "address", "add", bridgeHost+"/32", "dev", "lo")
	i := newIsland(t)
	lab := newObfs4Lab(t)

	orPort := listenLoopback(t).(*net.TCPListener)
	variables := obfs4Variables(t, orPort, "").With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "obfs4-" + bridgeHost + ":0"})
	server := obfs4Server{lab.launch(t, ours, lab.state(t), variables), orPort}

	// A module that dials by itself, and is given a name.
	web := listenLoopback(t).(*net.TCPListener)
	_, webPort, _ := net.SplitHostPort(web.Addr().String())
	config := filepath.Join(t.TempDir(), "fixed.cfg")
	if err := os.WriteFile(config, []byte("localhost:"+webPort), 0o600); err != nil {
		t.Fatal(err)
	}
	module := builtFile(t, filepath.Join("..", "transport", "testmodules", "built", "plain_fixedonly_v1.wasm"))
	lab.program["islander"] = i.executable(waterproxy(t), "-log-level", "debug",
		"-module", "fixed="+module, "-module-config", "fixed="+config, "-module-allow", "fixed=localhost:"+webPort)

	// One whose bridge line has a made-up address, and the name in its url.
	tunnel := startWebtunnel(t, waterproxy(t), warmState(t, "webtunnel"), "http://localhost/secret")
	tunnelArgs := ptargs.Format(transport.Args{"url": {"http://localhost:" + tunnel.port + "/secret"}})
	tunnel.args(t) // it listens

	before := i.strayed()
	if err := i.do(func() error {
		_, err := net.Dial("tcp", server.address())
		return err
	}); !errors.Is(err, syscall.ENETUNREACH) {
		t.Fatalf("the island is none: %v", err)
	}
	if now := i.strayed(); now == before {
		t.Fatal("a connection that has no route is not counted")
	}

	for name, p := range realProxies {
		t.Run(name, func(t *testing.T) {
			_, port := freeAddress(t)
			stop := p.start(t, mainland, port)
			before := i.strayed()
			client := obfs4Client{lab.launch(t, "islander", lab.state(t), ptproc.Client("", "obfs4", "fixed", "webtunnel").With(ptproc.Variables{
				"TOR_PT_PROXY": strings.Replace(p.url, "ADDRESS", net.JoinHostPort(mainland, port), 1),
			}))}
			client.Line("^PROXY DONE$")
			fixed := client.Line(`^CMETHOD fixed socks5 ([0-9.:]+)`)[1]
			tunnels := client.Line(`^CMETHOD webtunnel socks5 ([0-9.:]+)`)[1]
			args := server.bridgeArgs()
			err := i.do(func() error {
				near, err := client.connect(server.address(), args)
				if err != nil {
					return err
				}
				defer near.Close()
				if err := carry(near, server.accept(t)); err != nil {
					return fmt.Errorf("to the bridge: %w", err)
				}
				own, err := dialSOCKS(fixed, "", "192.0.2.1:1")
				if err != nil {
					return fmt.Errorf("the module's own connection: %w", err)
				}
				defer own.Close()
				if err := carry(own.(*net.TCPConn), acceptTCP(t, web)); err != nil {
					return fmt.Errorf("through the module's own connection: %w", err)
				}
				named, err := dialSOCKS(tunnels, tunnelArgs, "[2001:db8::1]:443")
				if err != nil {
					return fmt.Errorf("to the url of a bridge line: %w", err)
				}
				defer named.Close()
				return carry(named.(*net.TCPConn), acceptTCP(t, tunnel.orPort))
			})
			if err != nil {
				t.Error(err)
			}
			stop()
			err = i.do(func() error {
				for _, dial := range []func() (net.Conn, error){
					func() (net.Conn, error) { return client.connect(server.address(), args) },
					func() (net.Conn, error) { return dialSOCKS(fixed, "", "192.0.2.1:1") },
					func() (net.Conn, error) { return dialSOCKS(tunnels, tunnelArgs, "[2001:db8::1]:443") },
				} {
					if conn, err := dial(); err == nil {
						conn.Close()
						return errors.New("it connects without the proxy")
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if now := i.strayed(); now != before {
				t.Errorf("%d times something wanted to go past the proxy", now-before)
			}
		})
	}
}

// carry sends a megabyte from one end of a connection to the other.
func carry(near, far *net.TCPConn) error {
	text := make([]byte, 1<<20)
	rand.Read(text)
	sent := make(chan error, 1)
	go func() {
		_, err := near.Write(text)
		sent <- err
	}()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(far, got); err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return errors.New("it has been changed")
	}
	return <-sent
}

// TestTorWithProxy has tor tell the transport of the proxy that torrc names. (Where
// torrc has a password for a SOCKS5 proxy, tor itself cannot use a bridge line without
// arguments.)
func TestTorWithProxy(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	plugins := []tornet.Plugin{{Transports: []string{"obfs4"}, Exec: []string{waterproxy(t)}}}
	bridge := startBridge(ctx, t, tornet.BridgeOptions{Plugins: plugins})
	for name, torrc := range map[string][]string{
		"microsocks, password": {"Socks5Proxy %s", "Socks5ProxyUsername " + socksUser, "Socks5ProxyPassword " + socksPassword},
		"tinyproxy, password":  {"HTTPSProxy %s", "HTTPSProxyAuthenticator " + httpUser + ":" + httpPassword},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			host, port := freeAddress(t)
			stop := realProxies[name].start(t, host, port)
			torrc[0] = fmt.Sprintf(torrc[0], net.JoinHostPort(host, port))
			client := startClient(ctx, t, tornet.ClientOptions{Plugins: plugins, BridgeLines: bridge.Lines(), Torrc: torrc})
			fetch(ctx, t, web, client)
			stop()
			// The connection to the bridge was in the proxy's hands, and ended with it. tor
			// asks for another one, which fails.
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- web.Download(ctx, client.HTTP(), nil) }()
			if _, err := client.WaitLog(ctx, "pt.log", regexp.MustCompile(`cannot connect.*upstream \S+ proxy`)); err != nil {
				t.Error(err)
			}
			cancel()
			if err := <-ended; err == nil {
				t.Error("tor reaches the network without the proxy")
			}
		})
	}
}

// TestPTSpec_3_2_1_SourceAddress: connections to other machines come from the address
// that tor names, at the client and at the bridge, and those to this machine do not.
func TestPTSpec_3_2_1_SourceAddress(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	for _, ip := range []string{"10.201.0.1/32", "10.201.0.2/32", "fd00:201::1/128", "fd00:201::2/128"} {
		run(t, "ip", "address", "add", ip, "dev", "lo", "nodad")
	}
	sources := ptproc.Variables{"TOR_PT_OUTBOUND_BIND_ADDRESS_V4": "10.201.0.2", "TOR_PT_OUTBOUND_BIND_ADDRESS_V6": "[fd00:201::2]"}
	lab := &obfs4Lab{program: map[string]string{ours: waterproxy(t)}}
	client := lab.launch(t, ours, t.TempDir(), ptproc.Client("", "plain").With(sources))
	socks := client.Line(`^CMETHOD plain socks5 ([0-9.:]+)`)[1]
	for host, want := range map[string]string{
		"10.201.0.1": "10.201.0.2", "fd00:201::1": "fd00:201::2", "127.0.0.1": "127.0.0.1", "::1": "::1",
	} {
		t.Run(host, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			from := func(what string) {
				t.Helper()
				got, _, err := net.SplitHostPort(acceptTCP(t, l.(*net.TCPListener)).RemoteAddr().String())
				if err != nil || got != want {
					t.Errorf("%s comes from %s, %v; want %s", what, got, err, want)
				}
			}
			near, err := dialSOCKS(socks, "", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			near.Close()
			from("the client")
			server := lab.launch(t, ours, t.TempDir(), ptproc.Server("", l.Addr().String(), "plain").With(sources))
			dialTCP(t, server.Line(`^SMETHOD plain (\S+)`)[1]).Close()
			from("the bridge")
		})
	}
}
