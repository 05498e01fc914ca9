package examine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	utls "github.com/refraction-networking/utls"
)

// Kind is what a connection carries. It is TLS in any case, as nearly everything is.
type Kind string

// The kinds.
const (
	Tor  Kind = "tor"  // tor's link to a bridge: its handshake and cells
	Web  Kind = "web"  // a browser that loads a page
	Bulk Kind = "bulk" // a download
)

// Kinds are all of them, in the order in which they are run.
var Kinds = []Kind{Tor, Web, Bulk}

// step is what one side writes at once, and the other reads.
type step struct {
	fromClient bool
	bytes      int
}

const cell = 514 // a cell of link protocols from 4 on (tor-spec 3)

// scripts are the kinds' conversations after the TLS handshake.
var scripts = map[Kind][]step{
	Tor: {
		{true, 11}, {false, 11 + 980 + 41 + cell}, // VERSIONS; VERSIONS, CERTS, AUTH_CHALLENGE, NETINFO
		{true, cell}, {true, cell}, {false, cell}, // NETINFO, CREATE_FAST; CREATED_FAST
		{true, cell}, {false, cell}, // EXTEND2; EXTENDED2
		{true, cell}, {false, cell},
		{true, cell}, {false, cell}, // BEGIN; CONNECTED
		{true, cell * 2}, {false, cell * 9}, {true, cell}, {false, cell}, // the handshake of what it carries
		{true, cell}, {false, cell * 40}, {false, cell * 60}, // a request, and the answer
		{true, cell}, {false, cell * 30}, // SENDME, and the rest
	},
	Web: {
		// The request, with the settings of HTTP/2; the server's, which the client
		// acknowledges before the page comes.
		{true, 640}, {false, 90}, {true, 31}, {false, 1200}, {false, 31_000},
		{true, 210}, {false, 18_000}, {false, 44_000}, // what belongs to it
		{true, 75}, {false, 7_300},
		{true, 90}, {false, 120_000},
	},
	Bulk: {{true, 310}, {false, 90}, {true, 31}, {false, 350}, {false, 512 << 10}},
}

// hellos say which client's ClientHello begins a conversation. tor's is padded to 517 bytes,
// as this browser's.
var hellos = map[Kind]utls.ClientHelloID{
	Tor:  utls.HelloFirefox_105,
	Web:  utls.HelloChrome_133,
	Bulk: utls.HelloFirefox_120,
}

const (
	// conversationLimit bounds one connection from beginning to end.
	conversationLimit = 2 * time.Minute
	// MaxProbeTime is how long probers may wait: as long as a connection is held open that
	// takes the only place of an instance.
	MaxProbeTime = 10 * time.Minute
	// unreadLimit is how long what a prober sends is still read after its end.
	unreadLimit = 100 * time.Millisecond
)

// writeSize is how much is encrypted and written at once: a record.
const writeSize = 16 << 10

// origin is where the server's connections come out, in the place of tor's ORPort.
type origin struct {
	listener net.Listener
	configs  map[Kind]*tls.Config
	running  sync.WaitGroup

	mu       sync.Mutex
	expected map[string]*conversation // by the name for which the client asks
	next     int
	open     map[net.Conn]struct{}
	closed   bool
}

// conversation is one connection, at both of its ends.
type conversation struct {
	kind Kind
	name string // in its ClientHello

	arrived time.Time  // when its first byte came out; valid once done has been received
	done    chan error // of the far end; it has room for the one
}

func newOrigin() (*origin, error) {
	link, err := linkCertificate()
	if err != nil {
		return nil, err
	}
	site, err := siteCertificate()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{listener: l, expected: map[string]*conversation{}, open: map[net.Conn]struct{}{}}
	o.configs = map[Kind]*tls.Config{
		Tor:  {Certificates: []tls.Certificate{*link}, MinVersion: tls.VersionTLS12},
		Web:  {Certificates: []tls.Certificate{*site}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		Bulk: {Certificates: []tls.Certificate{*site}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
	}
	o.running.Go(o.serve)
	return o, nil
}

func (o *origin) address() string { return o.listener.Addr().String() }

// close ends everything and waits for that.
func (o *origin) close() error {
	err := o.listener.Close()
	o.mu.Lock()
	o.closed = true
	for c := range o.open {
		c.Close()
	}
	o.mu.Unlock()
	o.running.Wait()
	return err
}

// expect announces a conversation.
func (o *origin) expect(kind Kind) *conversation {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	c := &conversation{kind: kind, name: fmt.Sprintf("www.host%06d.example.com", o.next), done: make(chan error, 1)}
	o.expected[c.name] = c
	return c
}

func (o *origin) forget(c *conversation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.expected, c.name)
}

func (o *origin) serve() {
	for {
		c, err := o.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: who waits for this one has a limit
			time.Sleep(10 * time.Millisecond)
			continue
		}
		o.mu.Lock()
		if o.closed {
			c.Close()
		} else {
			o.open[c] = struct{}{}
			o.running.Go(func() { o.answer(c) })
		}
		o.mu.Unlock()
	}
}

// answer is the far end of a conversation.
func (o *origin) answer(c net.Conn) {
	defer func() {
		c.Close()
		o.mu.Lock()
		delete(o.open, c)
		o.mu.Unlock()
	}()
	if err := c.SetDeadline(time.Now().Add(MaxProbeTime + conversationLimit)); err != nil {
		return
	}
	timed := &timedConn{Conn: c}
	var talk *conversation
	t := tls.Server(timed, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if talk = o.expected[info.ServerName]; talk == nil {
			return o.configs[Tor], nil // tor shakes hands with anyone
		}
		return o.configs[talk.kind], nil
	}})
	err := t.Handshake()
	if talk == nil {
		// A prober has come through. What is left unread would make a reset of the end.
		if c.SetReadDeadline(time.Now().Add(unreadLimit)) == nil {
			_, _ = io.Copy(io.Discard, c)
		}
		return
	}
	talk.arrived = timed.first
	if err == nil {
		err = follow(t, scripts[talk.kind], false)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, t) // the client closes first
	}
	talk.done <- err
}

// timedConn notes when the first byte comes.
type timedConn struct {
	net.Conn
	first time.Time
}

func (c *timedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.first.IsZero() {
		c.first = time.Now()
	}
	return n, err
}

// talk holds a conversation over a connection, from its ClientHello to its end, and closes
// it.
func (o *origin) talk(ctx context.Context, conn net.Conn, c *conversation) error {
	defer conn.Close()
	defer o.forget(c)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(conversationLimit)); err != nil {
		return err
	}
	t, err := handshake(conn, c)
	if err != nil {
		return err
	}
	if err := follow(t, scripts[c.kind], true); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin holds the beginning of a conversation, the TLS handshake, and leaves it open.
func (o *origin) begin(ctx context.Context, conn net.Conn, c *conversation) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(conversationLimit)); err != nil {
		return err
	}
	_, err := handshake(conn, c)
	return err
}

func handshake(conn net.Conn, c *conversation) (*utls.UConn, error) {
	// Whether its peer is who it claims is not what is looked at here: it is this process.
	t := utls.UClient(conn, &utls.Config{ServerName: c.name, InsecureSkipVerify: true}, hellos[c.kind])
	if err := t.Handshake(); err != nil {
		return nil, fmt.Errorf("the payload's TLS handshake: %w", err)
	}
	return t, nil
}

// follow plays one side of a script.
func follow(c io.ReadWriter, script []step, isClient bool) error {
	buffer := make([]byte, writeSize)
	for i, s := range script {
		if s.fromClient != isClient {
			if _, err := io.CopyN(io.Discard, c, int64(s.bytes)); err != nil {
				return fmt.Errorf("step %d of %d, %d bytes to come: %w", i+1, len(script), s.bytes, err)
			}
			continue
		}
		for left := s.bytes; left > 0; left -= writeSize {
			// What is written does not matter: it is encrypted.
			if _, err := c.Write(buffer[:min(left, writeSize)]); err != nil {
				return fmt.Errorf("step %d of %d, writing %d bytes: %w", i+1, len(script), s.bytes, err)
			}
		}
	}
	return nil
}
