package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/bridgeline"
	"waterproxy/internal/catalog"
	"waterproxy/modules"
	"waterproxy/transport"
)

// lineCheck dials a bridge once, to say what is wrong with its line or with the way
// there.
type lineCheck struct {
	catalog catalog.Catalog
	timeout time.Duration
}

// run describes a success on w, and a failure in its error. It makes one connection at
// most, once everything else is well, and looks up the bridge's name if it has one.
func (c *lineCheck) run(ctx context.Context, w io.Writer, text string) (err error) {
	line, err := bridgeline.Parse(text)
	if err != nil {
		return err
	}
	if err := errors.Join(append(c.catalog.CheckFlags(), c.catalog.Find(line.Transport))...); err != nil {
		return err
	}
	if c.catalog.StateDir, err = os.MkdirTemp("", "waterproxy-check-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.catalog.StateDir)
	cfg, err := c.catalog.Load(line.Transport)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.Module.Close()) }()
	if err := transport.CheckArgs(ctx, cfg, line.Args); err != nil {
		if refused, ok := errors.AsType[*transport.ArgsError](err); ok {
			err = refused
		}
		return fmt.Errorf("%s: %w", line.Transport, err)
	}
	seen := &sight{}
	cfg.SetupTimeout, cfg.Dial = c.timeout, seen.dial
	took, err := dialOnce(ctx, cfg, line, seen)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return fmt.Errorf("%s: %s", line.Transport, seen.explain(err, c.timeout))
	}
	_, err = fmt.Fprintf(w, "%s: connected in %d ms. %s\n", line.Transport, took.Milliseconds(), seen.proof(line.Transport, c.catalog.BuiltIn(line.Transport)))
	return err
}

// dialOnce connects as the client would, and ends the connection.
func dialOnce(ctx context.Context, cfg transport.Config, line bridgeline.Line, seen *sight) (took time.Duration, err error) {
	d, err := transport.NewDialer(cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Start(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.SetupTimeout)
	defer cancel()
	began := time.Now()
	conn, err := d.Dial(ctx, "tcp", line.Address, line.Args)
	seen.freeze()
	if err != nil {
		return 0, err
	}
	return time.Since(began), conn.Abort()
}

// sight is what can be seen of a dial on the network. It is safe for concurrent use.
type sight struct {
	mu        sync.Mutex
	frozen    bool   // the dial is over
	dialed    bool   // there was an attempt to connect
	address   string // that it was for: the line's own may be a placeholder
	connected bool   // it succeeded
	err       error  // it failed
	received  int    // bytes
	ended     error  // why no more bytes come: io.EOF, or the connection's failure
}

func (s *sight) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen {
		f()
	}
}

// freeze keeps what has been seen up to now.
func (s *sight) freeze() { s.note(func() { s.frozen = true }) }

// dial is for transport.Config.Dial.
func (s *sight) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.note(func() { s.dialed, s.address = true, address })
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	s.note(func() { s.connected, s.err = s.connected || err == nil, err })
	if err != nil {
		return nil, err
	}
	return &seenConn{conn, s}, nil
}

// seenConn is a connection whose reads are seen.
type seenConn struct {
	net.Conn
	by *sight
}

func (c *seenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.by.note(func() {
		c.by.received += n
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.by.ended = err
		}
	})
	return n, err
}

func (c *seenConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// explain returns in words why a dial has failed.
func (s *sight) explain(err error, timeout time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	address := s.address
	_, lookUp := errors.AsType[*net.DNSError](err) // of a name that the module chose
	kind, own := transport.Kind(err)
	late := kind == transport.KindTimeout
	const wrong = "the arguments of the line are not this bridge's, what listens there is not this transport, or a censor interferes"
	switch {
	case !s.dialed && lookUp:
		return explainTCP(err, address, timeout)
	case !s.dialed:
		return "the module failed before it connected: " + err.Error()
	case !s.connected:
		return explainTCP(cmp.Or(s.err, err), address, timeout)
	case own:
		return "connected to " + address + ", but this side failed: " + err.Error()
	case s.ended != nil:
		return fmt.Sprintf("connected to %s, but the other side closed the connection during the handshake, after %d bytes: %s", address, s.received, wrong)
	case late && s.received == 0:
		return fmt.Sprintf("connected to %s, but the handshake was not answered within %v: %s", address, timeout, wrong)
	case late:
		return fmt.Sprintf("connected to %s, and %d bytes came, but the handshake was not complete within %v: %s", address, s.received, timeout, wrong)
	}
	return fmt.Sprintf("connected to %s, but the handshake failed: %v", address, err)
}

// explainTCP returns in words why there is no TCP connection.
func explainTCP(err error, address string, timeout time.Duration) string {
	dns, named := errors.AsType[*net.DNSError](err)
	kind, _ := transport.Kind(err)
	switch {
	case named && dns.IsNotFound:
		return fmt.Sprintf("cannot resolve %s: there is no such name", dns.Name)
	case named:
		return fmt.Sprintf("cannot resolve %s: the name server does not answer; is this machine online?", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return address + " refuses the connection: nothing listens there; the bridge is down, or the address or port is wrong"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "there is no route to " + address + ": this machine is offline, or has no network of that kind (IPv6, for example), or the way is blocked"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "this machine does not let the connection to " + address + " out; a firewall's rule, for example"
	case kind == transport.KindTimeout:
		return fmt.Sprintf("%s did not answer within %v, not even at the level of TCP: the machine is off, the address is wrong, or a firewall or a censor drops the packets", address, timeout)
	}
	return "cannot connect to " + address + ": " + err.Error()
}

// proof returns in words what a dial that succeeded proves.
func (s *sight) proof(name string, builtIn bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case builtIn && modules.Authenticates(name):
		return "The bridge has answered, with the key that the line names."
	case !s.connected:
		return "The module made no network connection for that, so it proves nothing about the bridge."
	case builtIn || s.received == 0:
		return "That proves only that something accepts TCP connections there: the transport waits for no answer, so a wrong bridge or wrong arguments would show with the first data."
	}
	return fmt.Sprintf("The module is content with the %d bytes that came back; what that proves depends on the transport.", s.received)
}
