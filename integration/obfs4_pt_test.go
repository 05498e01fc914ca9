package integration

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"waterproxy/internal/ptproc"
)

// The tests of obfs4 that need no tor run the transport's two processes by
// themselves, and are in tor's place at both ends.

const (
	ours   = "waterproxy"
	theirs = "obfs4proxy"
	// obfs4Patience is how long to wait for what must happen. A handshake that a
	// server refuses takes 30 s and the server's own delay.
	obfs4Patience = 3 * time.Minute
)

// obfs4Keys are those of the servers that are started with options. They make a delay
// of two seconds after the time of a handshake, and a table of lengths without 0.
const obfs4Keys = "node-id=0102030405060708090a0b0c0d0e0f1011121314;" +
	"private-key=2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40;" +
	"drbg-seed=" + seedTwoSeconds

const (
	seedTwoSeconds    = "736565642035360000000000000000000000000000000000"
	seedTwentyThree   = "736565642031300000000000000000000000000000000000"
	handshakePatience = 30 * time.Second // of an obfs4 server, before its delay
)

// obfs4Lab starts processes. It compiles our module once.
type obfs4Lab struct {
	program  map[string]string // by ours and theirs
	compiled string            // what our first process has left
}

func newObfs4Lab(t *testing.T) *obfs4Lab {
	t.Helper()
	lab := &obfs4Lab{program: map[string]string{ours: waterproxy(t), theirs: program(t, theirs)}}
	state := t.TempDir()
	lab.launch(t, ours, state, clientVariables()).address()
	lab.compiled = filepath.Join(state, "compiled")
	return lab
}

// state returns a new state directory.
func (lab *obfs4Lab) state(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "compiled"), os.DirFS(lab.compiled)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func clientVariables() []string { return []string{"TOR_PT_CLIENT_TRANSPORTS=obfs4"} }

func serverVariables(orPort net.Listener, options string) (variables []string) {
	if options != "" {
		options = "obfs4:" + strings.ReplaceAll(options, ";", ";obfs4:")
		variables = append(variables, "TOR_PT_SERVER_TRANSPORT_OPTIONS="+options)
	}
	return append(variables, "TOR_PT_SERVER_TRANSPORTS=obfs4", "TOR_PT_SERVER_BINDADDR=obfs4-127.0.0.1:0",
		"TOR_PT_EXTENDED_SERVER_PORT=", "TOR_PT_ORPORT="+orPort.Addr().String())
}

// ptProcess is the process of a pluggable transport.
type ptProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when there are more lines, or none will come
}

// launch starts one, which ends with the test.
func (lab *obfs4Lab) launch(t *testing.T, program, state string, variables []string) *ptProcess {
	t.Helper()
	cmd := exec.Command(lab.program[program])
	cmd.Env = append(variables, "TOR_PT_MANAGED_TRANSPORT_VER=1", "TOR_PT_STATE_LOCATION="+state,
		"TOR_PT_EXIT_ON_STDIN_CLOSE=1", "PATH="+os.Getenv("PATH"))
	p := startPT(t, cmd)
	t.Cleanup(p.stop)
	return p
}

// startPT starts a process whose standard output is to be read.
func startPT(t *testing.T, cmd *exec.Cmd) *ptProcess {
	t.Helper()
	p := &ptProcess{t: t, cmd: cmd, exited: make(chan struct{}), more: make(chan struct{})}
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	go func() {
		defer close(p.exited)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			p.add(scan.Text())
		}
		_ = cmd.Wait() // what matters is what it said
		p.add("")
	}()
	return p
}

func (p *ptProcess) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.more)
	p.more = make(chan struct{})
}

// said returns the lines so far, and a channel that is closed when there are more.
func (p *ptProcess) said() ([]string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines), p.more
}

// stop ends the process as tor does.
func (p *ptProcess) stop() {
	_ = p.stdin.Close() // it may have ended by itself
	select {
	case <-p.exited:
	case <-time.After(exitTime):
		p.t.Errorf("%s does not end with its standard input", p.cmd.Path)
		_ = p.cmd.Process.Kill() // it is waited for next
		<-p.exited
	}
}

// await waits for a line, and returns its submatches.
func (p *ptProcess) await(pattern string) []string {
	p.t.Helper()
	expression, timeout := regexp.MustCompile(pattern), time.After(obfs4Patience)
	for {
		lines, more := p.said()
		for _, line := range lines {
			if match := expression.FindStringSubmatch(line); match != nil {
				return match
			}
		}
		if len(lines) > 0 && lines[len(lines)-1] == "" {
			p.t.Fatalf("it ended without a line that matches %s:\n%s", pattern, strings.Join(lines, "\n"))
		}
		select {
		case <-more:
		case <-timeout:
			p.t.Fatalf("no line matches %s:\n%s", pattern, strings.Join(lines, "\n"))
		}
	}
}

// address waits until the transport listens, and says where.
func (p *ptProcess) address() string {
	p.t.Helper()
	return p.await(`^(?:CMETHOD obfs4 socks5|SMETHOD obfs4) ([0-9.:]+)`)[1]
}

// obfs4Client is a client of one of the programs.
type obfs4Client struct{ *ptProcess }

func (lab *obfs4Lab) client(t *testing.T, program string) obfs4Client {
	t.Helper()
	return obfs4Client{lab.launch(t, program, lab.state(t), clientVariables())}
}

// connect asks for a connection as tor does.
func (c obfs4Client) connect(address, args string) (*net.TCPConn, error) {
	socks, err := proxy.SOCKS5("tcp", c.address(), &proxy.Auth{User: args, Password: "\x00"}, proxy.Direct)
	if err != nil {
		return nil, err
	}
	conn, err := socks.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(obfs4Patience))
}

// obfs4Server is a server of one of the programs, with a listener as its ORPort.
type obfs4Server struct {
	*ptProcess
	orPort *net.TCPListener
}

func (lab *obfs4Lab) server(t *testing.T, program, state, options string) obfs4Server {
	t.Helper()
	orPort := listenLoopback(t).(*net.TCPListener)
	return obfs4Server{lab.launch(t, program, state, serverVariables(orPort, options)), orPort}
}

// bridgeArgs returns the arguments of the server's bridge line, as a client gets them.
func (s obfs4Server) bridgeArgs() string {
	s.t.Helper()
	return strings.ReplaceAll(s.await(`^SMETHOD obfs4 \S+ ARGS:(\S+)`)[1], ",", ";")
}

// accept returns the next connection to the ORPort.
func (s obfs4Server) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	if err := s.orPort.SetDeadline(time.Now().Add(obfs4Patience)); err != nil {
		t.Fatal(err)
	}
	conn, err := s.orPort.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(obfs4Patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// checkUnused fails the test if somebody waits at the ORPort.
func (s obfs4Server) checkUnused(t *testing.T) {
	t.Helper()
	if err := s.orPort.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if conn, err := s.orPort.AcceptTCP(); err == nil {
		conn.Close()
		t.Error("a connection came to the ORPort")
	}
}

// obfs4Link is a client and a server that it uses.
type obfs4Link struct {
	client obfs4Client
	server obfs4Server
	args   string // of the bridge line
	// greets: the server's side begins. In iat-mode 2 the library panics when it draws
	// the length 0, which some tables of lengths have in them. A client draws from a
	// table of its own until it has read what came after the handshake.
	greets bool
}

// connect returns both ends of a new connection.
func (l obfs4Link) connect(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	near, err := l.client.connect(l.server.address(), l.args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far = l.server.accept(t)
	if l.greets {
		const greeting = "hello"
		_, err = io.WriteString(far, greeting)
		if err == nil {
			_, err = io.ReadFull(near, make([]byte, len(greeting)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

// exchange carries bytes both ways at once, and compares their SHA-256.
func (l obfs4Link) exchange(t *testing.T, size int) {
	t.Helper()
	near, far := l.connect(t)
	up, down := noise(size), noise(size+1)
	results := make(chan error, 4)
	for _, way := range []struct {
		from, to *net.TCPConn
		what     []byte
	}{{near, far, up}, {far, near, down}} {
		go func() {
			_, err := way.from.Write(way.what)
			results <- err
		}()
		go func() {
			sum := sha256.New()
			_, err := io.CopyN(sum, way.to, int64(len(way.what)))
			if want := sha256.Sum256(way.what); err == nil && !bytes.Equal(sum.Sum(nil), want[:]) {
				err = fmt.Errorf("SHA-256 %x arrived, want %x", sum.Sum(nil), want)
			}
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// writeAndClose has each end in turn write and close at once: all must arrive.
func (l obfs4Link) writeAndClose(t *testing.T, size int) {
	t.Helper()
	for _, who := range []string{"the client", "the ORPort"} {
		from, to := l.connect(t)
		if who == "the ORPort" {
			from, to = to, from
		}
		text := noise(size)
		go func() {
			_, _ = from.Write(text) // an error shows in what arrives
			_ = from.Close()
		}()
		if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s wrote %d bytes and closed: %d arrived, and %v", who, len(text), len(got), err)
		}
	}
}
