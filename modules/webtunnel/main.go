// Command webtunnel is the WebTunnel transport, compatible with Tor's on the wire and in
// its arguments: TLS as a browser speaks it, an HTTP/1.1 Upgrade at a secret path, and raw
// bytes from then on. Its server stands behind a web server that ends TLS.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"waterproxy/watm"
)

// version is that of the protocol, as the standalone server publishes it.
const version = "0.0.3"

// webtunnel is one side of the transport.
type webtunnel struct {
	names   serverNames
	hellos  hellosAhead
	tickets tickets
	// limit is how long a set-up may take. A server that trickles its answer, and a client
	// that sends no request, end by it.
	limit time.Duration
}

func newWebtunnel() *webtunnel { return &webtunnel{limit: setUpLimit} }

// setUpLimit is shorter than the host's own, so that the error is this module's.
const setUpLimit = 25 * time.Second

// Start implements watm.Starter.
func (t *webtunnel) Start(env *watm.Env) error {
	if !env.Server {
		return nil
	}
	address, err := checkServerArgs(env.Args)
	if err != nil {
		return err
	}
	if err := env.PublishAddress(address); err != nil {
		return err
	}
	published := maps.Clone(env.Args)
	published["ver"] = append(slices.Clone(published["ver"]), version)
	return env.Publish(published)
}

// Dial implements watm.Dialer. It dials the address in the arguments: the request's own is a
// placeholder. Where the bridge line lists names for the server, it tries each once.
func (t *webtunnel) Dial(ctx context.Context, r *watm.Request) (net.Conn, error) {
	b, err := parseBridge(r.Args)
	if err != nil {
		return nil, err
	}
	for tries := max(len(b.names), 1); ; tries-- {
		name := t.names.current(b)
		wire, err := r.ConnectTo(ctx, "tcp", b.dial)
		if err != nil {
			return nil, err
		}
		conn, err := t.setUp(ctx, wire, b, name)
		if err == nil {
			t.hellos.fill()
			return conn, nil
		}
		wire.Close()
		t.names.failed(b, name)
		if tries == 1 || ctx.Err() != nil {
			return nil, err
		}
	}
}

// setUp makes a connection to the bridge usable. The caller closes wire after an error.
func (t *webtunnel) setUp(ctx context.Context, wire watm.Conn, b *bridge, name string) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	if err := wire.SetDeadline(time.Now().Add(t.limit)); err != nil {
		return nil, err
	}
	conn, err := t.upgrade(wire, b, name)
	if err != nil {
		return nil, err
	}
	return conn, wire.SetDeadline(time.Time{})
}

func (t *webtunnel) upgrade(wire watm.Conn, b *bridge, name string) (watm.Conn, error) {
	conn, settle := wire, func(rest []byte) (watm.Conn, error) { return putBack(wire, rest), nil }
	if b.tls {
		o, err := t.shake(wire, b, name)
		if err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", describeTLS(err))
		}
		conn, settle = o, o.settle
	}
	rest, err := ask(conn, b)
	if err != nil {
		return nil, fmt.Errorf("HTTP upgrade: %w", describeHTTP(err))
	}
	return settle(rest)
}

// Server implements watm.Transport. A request that is none of the transport's gets no
// answer: the connection closes at once, and the web server in front says that it has a bad
// gateway. That is also what it says if an instance ends or a limit is reached, so there is
// nothing to keep open for.
func (t *webtunnel) Server(ctx context.Context, wire watm.Conn) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	if err := wire.SetDeadline(time.Now().Add(t.limit)); err != nil {
		return nil, err
	}
	conn, err := answer(wire)
	if err != nil {
		return nil, fmt.Errorf("HTTP upgrade: %w", err)
	}
	return conn, wire.SetDeadline(time.Time{})
}

// Client is not called, since there is Dial.
func (*webtunnel) Client(context.Context, watm.Conn, watm.Args) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func main() { watm.Run(newWebtunnel()) }
