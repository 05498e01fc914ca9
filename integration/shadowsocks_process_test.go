package integration

import (
	"bytes"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/internal/tornet"
)

const (
	shadowsocksPassword = "correct-horse"
	// shadowsocksPatience is how long to wait for what must happen.
	shadowsocksPatience = 3 * time.Minute
)

// shadowsocksLab starts our processes. They share a client, and what it has compiled.
type shadowsocksLab struct {
	*obfs4Lab
	dir      string // for state
	password string
	client   shadowsocksProcess
}

// shadowsocksProcess is a process of ours, as client or server.
type shadowsocksProcess struct{ *pttest.Process }

func (p shadowsocksProcess) address(t *testing.T) string {
	t.Helper()
	return p.Address("shadowsocks")
}

func newShadowsocksLab(t *testing.T) *shadowsocksLab {
	t.Helper()
	lab := &shadowsocksLab{obfs4Lab: &obfs4Lab{program: map[string]string{ours: waterproxy(t)}}, dir: warmState(t, "shadowsocks"), password: shadowsocksPassword}
	lab.client = shadowsocksProcess{lab.launch(t, ours, lab.dir, ptproc.Client("", "shadowsocks"))}
	lab.client.address(t) // the module is compiled
	return lab
}

// serverVariables are for a server with options as in a bridge line.
func (lab *shadowsocksLab) serverVariables(t *testing.T, orPort net.Listener, options string) ptproc.Variables {
	t.Helper()
	args, err := ptargs.Parse(options)
	if err != nil {
		t.Fatal(err)
	}
	return ptproc.Server("", orPort.Addr().String(), "shadowsocks").WithOptions("shadowsocks", args)
}

// shadowsocksServer is a server of ours, with a listener as its ORPort.
type shadowsocksServer struct {
	address string
	orPort  *net.TCPListener
}

func (lab *shadowsocksLab) server(t *testing.T, cipher string) shadowsocksServer {
	t.Helper()
	orPort := listenLoopback(t).(*net.TCPListener)
	options := "cipher=" + cipher + ";password=" + lab.password
	process := shadowsocksProcess{lab.launch(t, ours, lab.dir, lab.serverVariables(t, orPort, options))}
	return shadowsocksServer{process.address(t), orPort}
}

// connect asks our client for a connection to a server.
func (lab *shadowsocksLab) connect(t *testing.T, server, cipher string, more ...string) *net.TCPConn {
	t.Helper()
	args := append([]string{"cipher=" + cipher, "password=" + lab.password}, more...)
	return socksTCP(t, lab.client.address(t), strings.Join(args, ";"), server)
}

// startSSServer starts ss-server and returns its address.
func startSSServer(t *testing.T, cipher string) string {
	t.Helper()
	host, port := freeAddress(t)
	startSS(t, net.JoinHostPort(host, port), program(t, "ss-server"), "-s", host, "-p", port, "-k", shadowsocksPassword, "-m", cipher)
	return net.JoinHostPort(host, port)
}

// startSSLocal starts ss-local and returns the address of its SOCKS proxy.
func startSSLocal(t *testing.T, server, cipher string) string {
	t.Helper()
	serverHost, serverPort, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	host, port := freeAddress(t)
	startSS(t, net.JoinHostPort(host, port), program(t, "ss-local"), "-b", host, "-l", port,
		"-s", serverHost, "-p", serverPort, "-k", shadowsocksPassword, "-m", cipher)
	return net.JoinHostPort(host, port)
}

// startSS2022 starts another implementation's end of the 2022 edition and returns where it
// listens. The key is in base64 without its padding.
func startSS2022(t *testing.T, cipher, key, to string, more ...string) string {
	t.Helper()
	host, port := freeAddress(t)
	address := net.JoinHostPort(host, port)
	args := []string{"-m", cipher, "-k", key + strings.Repeat("=", -len(key)&3), "-l", address, "-to", to}
	startSS(t, address, peer(t, "ss2022"), append(args, more...)...)
	return address
}

// freeAddress returns one at which a program can listen that takes no other.
func freeAddress(t *testing.T) (host, port string) {
	t.Helper()
	free, err := tornet.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1", strconv.Itoa(free)
}

// startSS starts a program, which ends with the test, and waits until it listens.
func startSS(t *testing.T, address, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
	})
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-exited:
			t.Fatalf("%s has ended: %v", path, cmd.ProcessState)
		default:
		}
		if time.Since(begin) > shadowsocksPatience {
			t.Fatalf("%s does not listen: %v", path, err)
		}
	}
}

// dialSOCKS asks a SOCKS proxy for a connection, with the arguments of a bridge line
// if there are any.
func dialSOCKS(address, args, target string) (net.Conn, error) {
	var auth *proxy.Auth
	if args != "" {
		auth = &proxy.Auth{User: args, Password: "\x00"}
	}
	socks, err := proxy.SOCKS5("tcp", address, auth, proxy.Direct)
	if err != nil {
		return nil, err
	}
	return socks.Dial("tcp", target)
}

func socksTCP(t *testing.T, address, args, target string) *net.TCPConn {
	t.Helper()
	conn, err := dialSOCKS(address, args, target)
	if err != nil {
		t.Fatal(err)
	}
	return bounded(t, conn.(*net.TCPConn))
}

func dialTCP(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return bounded(t, conn.(*net.TCPConn))
}

func acceptTCP(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(shadowsocksPatience)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return bounded(t, conn)
}

// bounded closes a connection with the test, which nothing on it holds up for ever.
func bounded(t *testing.T, conn *net.TCPConn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(shadowsocksPatience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// recorder is a relay that remembers what clients send.
type recorder struct {
	address string
	mu      sync.Mutex
	bytes   bytes.Buffer
}

func startRecorder(t *testing.T, server string) *recorder {
	t.Helper()
	l := listenLoopback(t)
	r := &recorder{address: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go r.relay(client, server)
		}
	}()
	return r
}

// relay carries a connection until either side ends.
func (r *recorder) relay(client net.Conn, server string) {
	defer client.Close()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		return // which the client sees
	}
	defer conn.Close()
	go func() {
		defer conn.Close()
		_, _ = io.Copy(io.MultiWriter(r, conn), client)
	}()
	_, _ = io.Copy(client, conn)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Write(p)
}

// sent returns what the clients have sent so far.
func (r *recorder) sent() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bytes.Bytes())
}
