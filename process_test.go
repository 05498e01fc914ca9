package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/transport/testmodules"
)

const (
	// patience is how long to wait for what must happen. Compiling a module takes more
	// than a minute with the race detector on a machine with other work.
	patience = 4 * time.Minute
	// endTimeout bounds the end of a proxy. It is less than the time that a proxy
	// waits for connections by default, so that one that waits without need shows.
	endTimeout = 20 * time.Second
)

// ptLine matches the specification's lines that this managed proxy may write.
var ptLine = regexp.MustCompile(`^(` + strings.Join([]string{
	`VERSION 1`,
	`VERSION-ERROR no-version`,
	`(ENV|PROXY)-ERROR [ -~]+`,
	`PROXY DONE`,
	`CMETHOD [A-Za-z_]\w* socks5 127\.0\.0\.1:\d+`,
	`SMETHOD [A-Za-z_]\w* (\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+( ARGS:[!-~]+)?`,
	`[CS]METHOD-ERROR [A-Za-z_]\w* [ -~]+`,
	`[CS]METHODS DONE`,
	`LOG SEVERITY=(error|warning|notice|info|debug) MESSAGE="([ !#-\[\]-~]|\\[0-7]{3})*"`,
	`STATUS TYPE=version IMPLEMENTATION="waterproxy" VERSION="\d+\.\d+\.\d+"`,
	`STATUS TRANSPORT=[A-Za-z_]\w* CONNECT=(Success|Failed ERRSTR="([ !#-\[\]-~]|\\[0-7]{3})*")`,
}, "|") + `)$`)

// variables are those that tor sets.
type variables map[string]string

func (v variables) with(more variables) variables {
	all := maps.Clone(v)
	maps.Copy(all, more)
	return all
}

func (v variables) without(key string) variables {
	all := maps.Clone(v)
	delete(all, key)
	return all
}

// clientVariables are those for a client's proxy, for transports separated by
// commas.
func clientVariables(transports string) variables {
	return variables{
		"TOR_PT_MANAGED_TRANSPORT_VER": "1",
		"TOR_PT_STATE_LOCATION":        stateDir,
		"TOR_PT_EXIT_ON_STDIN_CLOSE":   "1",
		"TOR_PT_CLIENT_TRANSPORTS":     transports,
	}
}

// serverVariables are those for a bridge's proxy, each transport on a free
// loopback port.
func serverVariables(transports, orPort string) variables {
	var binds []string
	for name := range strings.SplitSeq(transports, ",") {
		binds = append(binds, name+"-127.0.0.1:0")
	}
	return variables{
		"TOR_PT_MANAGED_TRANSPORT_VER": "1",
		"TOR_PT_STATE_LOCATION":        stateDir,
		"TOR_PT_EXIT_ON_STDIN_CLOSE":   "1",
		"TOR_PT_SERVER_TRANSPORTS":     transports,
		"TOR_PT_SERVER_BINDADDR":       strings.Join(binds, ","),
		"TOR_PT_ORPORT":                orPort,
		"TOR_PT_EXTENDED_SERVER_PORT":  "",
	}
}

// module returns flags that make a test module a transport.
func module(name, file string) []string {
	return []string{"-module", name + "=" + testmodules.Path(file)}
}

// modulesFlags is module for several, as name, file, name, file.
func modulesFlags(pairs ...string) (flags []string) {
	for i := 0; i < len(pairs); i += 2 {
		flags = append(flags, module(pairs[i], pairs[i+1])...)
	}
	return flags
}

// process is the program, running.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout lines
	stderr lines
	exited chan struct{}
	hung   bool // it had to be killed
}

// launch starts the program. When the test ends the process is ended as by tor,
// and what it wrote is checked: lines of the specification on standard output,
// nothing on standard error, where panics and data races would be.
func launch(t *testing.T, env variables, args ...string) *process {
	t.Helper()
	p := start(t, env, args...)
	t.Cleanup(func() {
		p.stdin.Close()
		p.wait(endTimeout)
		if !p.hung {
			p.checkOutput()
		}
	})
	return p
}

// start starts the program in an environment that has nothing of the test's.
func start(t *testing.T, env variables, args ...string) *process {
	t.Helper()
	p := prepare(t, env, args...)
	p.begin()
	return p
}

// prepare returns a process that has not begun.
func prepare(t *testing.T, env variables, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = []string{
		childMarker + "=1",
		"PATH=" + os.Getenv("PATH"),
		"GODEBUG=netdns=go",
		"GORACE=atexit_sleep_ms=0", // by default a process lives on for a second
	}
	for key, value := range env {
		p.cmd.Env = append(p.cmd.Env, key+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

// begin starts a prepared process, which the test's end kills.
func (p *process) begin() {
	p.t.Helper()
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait() // its error is in the state
		close(p.exited)
	}()
	p.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		if p.t.Failed() {
			p.t.Logf("%q wrote to standard output:\n\t%s\nand to standard error:\n\t%s", p.cmd.Args[1:],
				strings.Join(p.stdout.get(), "\n\t"), strings.Join(p.stderr.get(), "\n\t"))
		}
	})
}

// run starts the program and returns when it has ended by itself.
func run(t *testing.T, env variables, args ...string) *process {
	t.Helper()
	p := start(t, env, args...)
	p.wait(patience)
	return p
}

// wait waits for the process to end.
func (p *process) wait(timeout time.Duration) {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.t.Errorf("the process did not end within %v", timeout)
		p.hung = true
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// status returns the exit status of a process that has ended.
func (p *process) status() int { return p.cmd.ProcessState.ExitCode() }

func (p *process) checkStatus(want int) {
	p.t.Helper()
	if got := p.status(); got != want {
		p.t.Errorf("exit status %d (%v), want %d", got, p.cmd.ProcessState, want)
	}
}

func (p *process) checkOutput() {
	p.t.Helper()
	for _, line := range p.stdout.get() {
		if !ptLine.MatchString(line) {
			p.t.Errorf("standard output has %q, which is no line of the specification", line)
		}
	}
	for _, line := range p.stderr.get() {
		p.t.Errorf("standard error has %q", line)
	}
}

// ready waits for the line that ends the negotiation and returns the lines up
// to it, without the log.
func (p *process) ready() (said []string) {
	p.t.Helper()
	p.line(`^[CS]METHODS DONE$`)
	for _, line := range p.stdout.get() {
		if !strings.HasPrefix(line, "LOG ") && !strings.HasPrefix(line, "STATUS ") {
			said = append(said, line)
		}
	}
	return said
}

// line waits for a line on standard output and returns what the pattern's groups
// match, after what the whole of it does.
func (p *process) line(pattern string) []string {
	p.t.Helper()
	return p.stdout.await(p.t, pattern, p.exited)
}

// address waits for a transport to be offered and returns where it listens.
func (p *process) address(name string) string {
	p.t.Helper()
	p.ready()
	return p.line(`^(?:CMETHOD ` + name + ` socks5|SMETHOD ` + name + `) (\S+)( ARGS:\S+)?$`)[1]
}

// lines collects what a process writes.
type lines struct {
	mu      sync.Mutex
	all     []string
	partial []byte
	more    chan struct{} // closed when there is a line more
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ended := bytes.Cut(l.partial, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		l.all = append(l.all, string(line))
		l.partial = rest
		if l.more != nil {
			close(l.more)
			l.more = nil
		}
	}
}

// get returns the lines so far, and what there is of an unfinished one.
func (l *lines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.all)
	if len(l.partial) > 0 {
		all = append(all, string(l.partial))
	}
	return all
}

// next returns the lines so far and a channel that is closed when there are more.
func (l *lines) next() ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.all, l.more
}

func (l *lines) await(t *testing.T, pattern string, end <-chan struct{}) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for ended := false; ; {
		all, more := l.next()
		for _, line := range all {
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		}
		if ended {
			t.Fatalf("the process ended without a line that matches %s", pattern)
		}
		select {
		case <-more:
		case <-end:
			ended = true
		case <-timeout:
			t.Fatalf("no line matches %s after %v", pattern, patience)
		}
	}
}

// listen returns a listener that the test's end closes.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// deadAddress returns one that refuses connections until the test ends: a connection
// has it, so that no listener gets it.
func deadAddress(t *testing.T) string {
	t.Helper()
	return dial(t, listen(t).Addr().String()).LocalAddr().String()
}

// freeAddress returns one at which the test, or a process of it, can listen later. It is
// below the ports that systems give to connections (32768 and up on Linux, 49152 and up
// elsewhere), since those are taken at any time.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, last = 12000, 31999
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", first+rand.IntN(last-first+1))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// accept returns the next connection of a listener.
func accept(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return own(t, c)
}

// dial connects to an address.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	return own(t, c)
}

// own sees to it that a connection ends with the test, and does not hang it.
func own(t *testing.T, c net.Conn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// The SOCKS5 reply codes that the proxy uses (RFC 1928, section 6).
const (
	replyGranted         = 0
	replyFailure         = 1
	replyNetUnreachable  = 3
	replyHostUnreachable = 4
	replyRefused         = 5
)

// ask asks a transport for a connection as tor does, and returns it with the
// reply code. With args it offers a user name and password (as facts say tor
// does), without it offers none.
func ask(t *testing.T, proxy, target, args string) (*net.TCPConn, byte) {
	t.Helper()
	c := dial(t, proxy)
	code, err := negotiate(c, target, args)
	if err != nil {
		t.Fatalf("SOCKS: %v", err)
	}
	return c, code
}

// connect is ask for a connection that must be granted.
func connect(t *testing.T, proxy, target string) *net.TCPConn {
	t.Helper()
	c, code := ask(t, proxy, target, "")
	if code != replyGranted {
		t.Fatalf("SOCKS reply %d", code)
	}
	return c
}

func negotiate(c net.Conn, target, args string) (byte, error) {
	offer, choice := []byte{5, 1, 0}, byte(0)
	if args != "" {
		offer, choice = []byte{5, 2, 0, 2}, 2
	}
	if err := exchange(c, offer, []byte{5, choice}); err != nil {
		return 0, err
	}
	if args != "" {
		user, pass := args, "\x00"
		if len(args) > 255 {
			user, pass = args[:255], args[255:]
		}
		auth := append([]byte{1, byte(len(user))}, user...)
		auth = append(append(auth, byte(len(pass))), pass...)
		if err := exchange(c, auth, []byte{1, 0}); err != nil {
			return 0, err
		}
	}
	request, err := request(target)
	if err != nil {
		return 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	reply := make([]byte, 10)
	if _, err := io.ReadFull(c, reply); err != nil {
		return 0, err
	}
	if want := []byte{5, reply[1], 0, 1, 0, 0, 0, 0, 0, 0}; !bytes.Equal(reply, want) {
		return 0, fmt.Errorf("malformed reply %x", reply)
	}
	return reply[1], nil
}

// request returns the SOCKS5 request for a connection.
func request(target string) ([]byte, error) {
	host, portName, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort("tcp", portName)
	if err != nil {
		return nil, err
	}
	r := []byte{5, 1, 0}
	switch ip := net.ParseIP(host); {
	case ip == nil:
		r = append(append(r, 3, byte(len(host))), host...)
	case ip.To4() != nil:
		r = append(append(r, 1), ip.To4()...)
	default:
		r = append(append(r, 4), ip...)
	}
	return append(r, byte(port>>8), byte(port)), nil
}

func exchange(c net.Conn, say, want []byte) error {
	if _, err := c.Write(say); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("got %x, want %x", got, want)
	}
	return nil
}

// echo sends text one way and the other, which shows that a connection works.
func echo(t *testing.T, near, far net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		text := []byte("a line from " + way[0].LocalAddr().String())
		if _, err := way[0].Write(text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(way[1], got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text) {
			t.Fatalf("got %q, want %q", got, text)
		}
	}
}

// awaitClose waits for the other side to end a connection, cleanly or not.
func awaitClose(t *testing.T, c net.Conn) {
	t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection was not closed")
	}
}
