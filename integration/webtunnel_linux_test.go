package integration

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport"
)

// webHost is where the web servers of these tests listen: the standalone client refuses
// loopback and private addresses, so that the tests need a network of their own.
const webHost = "203.0.113.5"

// webtunnelPrograms are the executables by the names of the rows.
func webtunnelPrograms(t *testing.T) (clients, servers map[string]string) {
	t.Helper()
	return map[string]string{ours: waterproxy(t), newer: peer(t, newer), standalone: peer(t, "webtunnel-client")},
		map[string]string{ours: waterproxy(t), standalone: peer(t, "webtunnel-server")}
}

// standalone is the implementation that WebTunnel comes from.
const standalone = "standalone"

// webtunnelServer is a server behind a web server, with a listener as its ORPort.
type webtunnelServer struct {
	process *pttest.Process
	orPort  *net.TCPListener
	port    string // at which the web server finds it
}

// startWebtunnel starts a server with the options of a url.
func startWebtunnel(t *testing.T, program, state, url string) webtunnelServer {
	t.Helper()
	host, port := freeAddress(t)
	orPort := listenLoopback(t).(*net.TCPListener)
	variables := ptproc.Server("", orPort.Addr().String(), "webtunnel").
		WithOptions("webtunnel", transport.Args{"url": {url}}).
		With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "webtunnel-" + net.JoinHostPort(host, port), "TOR_PT_STATE_LOCATION": state})
	return webtunnelServer{startProgram(t, program, variables), orPort, port}
}

// args returns the arguments of the server's bridge line.
func (s webtunnelServer) args(t *testing.T) transport.Args {
	t.Helper()
	args, err := ptargs.Parse(strings.ReplaceAll(s.process.Line(`^SMETHOD webtunnel \S+ ARGS:(\S+)`)[1], ",", ";"))
	if err != nil {
		t.Fatal(err)
	}
	return args
}

// pinOf is the argument cert for a file of certificates.
func pinOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pin []byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return base64.StdEncoding.EncodeToString(pin)
		}
		sum := sha256.Sum256(block.Bytes)
		if pin != nil {
			sum = sha256.Sum256(append(pin, sum[:]...))
		}
		pin, text = sum[:], rest
	}
}

// frontNginx starts nginx at an address, which passes each path on to a port. Without a
// certificate it speaks no TLS.
func frontNginx(t *testing.T, address string, paths map[string]string, cert, key string) {
	t.Helper()
	var locations strings.Builder
	for path, port := range paths {
		fmt.Fprintf(&locations, `		location = /%s {
			proxy_pass http://127.0.0.1:%s;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_buffering off;
			proxy_read_timeout 600s;
		}
`, path, port)
	}
	encryption := ""
	if cert != "" {
		address += " ssl"
		encryption = fmt.Sprintf("ssl_certificate %s;\n\t\tssl_certificate_key %s;", cert, key)
	}
	runNginx(t, fmt.Sprintf(`	server {
		listen %s;
		%s
%s	}
`, address, encryption, locations.String()), strings.TrimSuffix(address, " ssl"))
}

// frontCaddy is the same with Caddy.
func frontCaddy(t *testing.T, address string, paths map[string]string, cert, key string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := "{\n\tadmin off\n\tauto_https off\n}\nhttps://" + address + " {\n\ttls " + cert + " " + key + "\n"
	for path, port := range paths {
		text += "\treverse_proxy /" + path + " 127.0.0.1:" + port + "\n"
	}
	writeFile(t, file, []byte(text+"}\n"))
	t.Setenv("HOME", t.TempDir()) // for what it keeps
	startDaemon(t, address, "caddy", "run", "--adapter", "caddyfile", "--config", file)
}

// TestWebtunnel has clients and servers of WebTunnel talk to each other through real web
// servers: ours, lyrebird as Tor Browser has it, and the standalone ones.
//
//	client      server      front
//	ours        ours        nginx, Caddy, nginx without TLS
//	ours        standalone  nginx, Caddy, nginx without TLS
//	lyrebird    ours        nginx, Caddy, nginx without TLS
//	standalone  ours        nginx, Caddy, nginx without TLS
//
// Debian's nginx speaks TLS 1.2 unless it is told otherwise, and Caddy 1.3. 8 MiB go each way;
// then either end writes 1 MiB and closes at once. The Go programs among
// the others close without waiting for the other direction, so that is left out there.
func TestWebtunnel(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	run(t, "ip", "address", "add", webHost+"/32", "dev", "lo")
	clientPrograms, serverPrograms := webtunnelPrograms(t)
	_, cert, key := certificate(t, webHost)
	pin := pinOf(t, cert)

	state, clients := warmState(t, "webtunnel"), map[string]string{}
	for name, program := range clientPrograms {
		clients[name] = startProgram(t, program, ptproc.Client(state, "webtunnel")).Address("webtunnel")
	}
	t.Run("as Chromium", func(t *testing.T) { checkImitation(t, clients[ours]) })

	fronts := map[string]string{"nginx": "https://" + webHost + ":8441/", "caddy": "https://" + webHost + ":8442/", "plain": "http://" + webHost + ":8440/"}
	servers, paths := map[string]webtunnelServer{}, map[string]map[string]string{}
	for front, url := range fronts {
		paths[front] = map[string]string{}
		for name, program := range serverPrograms {
			path := "secret-" + name
			s := startWebtunnel(t, program, state, url+path)
			servers[front+name], paths[front][path] = s, s.port
		}
	}
	frontNginx(t, webHost+":8441", paths["nginx"], cert, key)
	frontNginx(t, webHost+":8440", paths["plain"], "", "")
	frontCaddy(t, webHost+":8442", paths["caddy"], cert, key)
	for _, pair := range [][2]string{{ours, ours}, {ours, standalone}, {newer, ours}, {standalone, ours}} {
		for front := range fronts {
			t.Run(fmt.Sprintf("%s to %s by %s", pair[0], pair[1], front), func(t *testing.T) {
				server := servers[front+pair[1]]
				args := server.args(t)
				if got := args["ver"]; len(got) != 1 || got[0] != "0.0.3" || len(args) != 2 {
					t.Errorf("the server publishes %v", args)
				}
				if front != "plain" {
					args["cert"] = []string{pin}
				}
				connect := func() (near, far *net.TCPConn) {
					near = socksTCP(t, clients[pair[0]], args.String(), server.process.Address("webtunnel"))
					return near, acceptTCP(t, server.orPort)
				}
				near, far := connect()
				exchangeBoth(t, near, far, 8<<20)
				if pair[0] != ours || pair[1] != ours {
					return
				}
				for _, who := range []string{"the client", "the ORPort"} {
					from, to := connect()
					if who == "the ORPort" {
						from, to = to, from
					}
					text := noise(1 << 20)
					go func() {
						_, _ = from.Write(text) // an error shows in what arrives
						_ = from.Close()
					}()
					if err := receive(to, text, false); err != nil {
						t.Errorf("%s wrote and closed: %v", who, err)
					}
				}
			})
		}
	}
}
