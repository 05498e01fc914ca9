package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// The tests of obfs4 that need no tor run the transport's two processes by
// themselves, and are in tor's place at both ends.

const (
	ours   = "waterproxy"
	theirs = "obfs4proxy"
	newer  = "lyrebird" // what obfs4proxy is called today, as Tor Browser has it
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

// obfs4Lab starts processes.
type obfs4Lab struct {
	program map[string]string // by ours, theirs and newer
}

func newObfs4Lab(t *testing.T) *obfs4Lab {
	t.Helper()
	return &obfs4Lab{map[string]string{ours: waterproxy(t), theirs: program(t, theirs), newer: peer(t, newer)}}
}

// state returns a new state directory.
func (lab *obfs4Lab) state(t *testing.T) string {
	t.Helper()
	return warmState(t, "obfs4")
}

// obfs4Variables are those for a server with options as in a bridge line.
func obfs4Variables(t *testing.T, orPort net.Listener, options string) ptproc.Variables {
	t.Helper()
	args, err := ptargs.Parse(options)
	if err != nil {
		t.Fatal(err)
	}
	return ptproc.Server("", orPort.Addr().String(), "obfs4").WithOptions("obfs4", args)
}

// launch starts a process of one of the programs, which ends with the test as tor ends it.
func (lab *obfs4Lab) launch(t *testing.T, program, state string, variables ptproc.Variables) *pttest.Process {
	t.Helper()
	p := pttest.New(t, variables.With(ptproc.Variables{"TOR_PT_STATE_LOCATION": state}), lab.program[program])
	p.Begin()
	t.Cleanup(func() { end(t, p) })
	return p
}

// end closes the standard input of a process, which has to end then.
func end(t *testing.T, p *pttest.Process) {
	t.Helper()
	if err := p.CloseStdin(); err != nil {
		t.Error(err)
	}
	p.Wait(exitTime)
}

// obfs4Client is a client of one of the programs.
type obfs4Client struct{ *pttest.Process }

func (lab *obfs4Lab) client(t *testing.T, program string) obfs4Client {
	t.Helper()
	return obfs4Client{lab.launch(t, program, lab.state(t), ptproc.Client("", "obfs4"))}
}

func (c obfs4Client) address() string { return c.Address("obfs4") }

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
	*pttest.Process
	orPort *net.TCPListener
}

func (s obfs4Server) address() string { return s.Address("obfs4") }

func (lab *obfs4Lab) server(t *testing.T, program, state, options string) obfs4Server {
	t.Helper()
	orPort := listenLoopback(t).(*net.TCPListener)
	return obfs4Server{lab.launch(t, program, state, obfs4Variables(t, orPort, options)), orPort}
}

// bridgeArgs returns the arguments of the server's bridge line, as a client gets them.
func (s obfs4Server) bridgeArgs() string {
	s.T.Helper()
	return strings.ReplaceAll(s.Line(`^SMETHOD obfs4 \S+ ARGS:(\S+)`)[1], ",", ";")
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
	// keepsOpen: a close of one end does not reach the other.
	keepsOpen bool
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

// exchange carries bytes both ways at once over a new connection.
func (l obfs4Link) exchange(t *testing.T, size int) {
	t.Helper()
	near, far := l.connect(t)
	exchangeBoth(t, near, far, size)
}

// exchangeBoth carries so many bytes both ways at once, and compares their SHA-256.
func exchangeBoth(t *testing.T, near, far *net.TCPConn, size int) {
	t.Helper()
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

// writeAndClose has each end in turn write and close at once: all must arrive. The other
// end sees the close, except through lyrebird, which waits until both ends have closed.
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
		arriving := io.Reader(to)
		if l.keepsOpen {
			arriving = io.LimitReader(to, int64(size))
		}
		if got, err := io.ReadAll(arriving); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s wrote %d bytes and closed: %d arrived, and %v", who, len(text), len(got), err)
		}
	}
}
