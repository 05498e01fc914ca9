// Command obfs4 is the obfs4 transport, compatible with obfs4proxy and lyrebird on
// the wire, in the arguments and in the files that a bridge keeps.
package main

import (
	"context"
	"fmt"
	"net"

	"gitlab.com/yawning/obfs4.git/transports/base"
	library "gitlab.com/yawning/obfs4.git/transports/obfs4"
	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/watm"
	_ "waterproxy/watm/singleinstance" // one replay filter for all
)

// obfs4 is one side of the transport. The replay filter and the delay after a bad
// handshake are the server factory's, and so the whole transport's.
type obfs4 struct {
	client base.ClientFactory
	server base.ServerFactory
}

// Start implements watm.Starter.
func (t *obfs4) Start(env *watm.Env) (err error) {
	if !env.Server {
		t.client, err = new(library.Transport).ClientFactory("")
		return err
	}
	if env.StateDir == "" {
		return errNoState
	}
	if err := checkServerArgs(env.Args); err != nil {
		return err
	}
	if err := checkState(env.StateDir); err != nil {
		return err
	}
	args := pt.Args(env.Args)
	if t.server, err = newServer(env.StateDir, &args); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	delay, err := closeDelay(env.StateDir)
	if err != nil {
		return err
	}
	env.KeepOpen(delay)
	return env.Publish(watm.Args(*t.server.Args()))
}

// Client implements watm.Transport. CheckArgs has checked the arguments.
func (t *obfs4) Client(ctx context.Context, conn watm.Conn, args watm.Args) (net.Conn, error) {
	ptArgs := pt.Args(args)
	parsed, err := t.client.ParseArgs(&ptArgs)
	if err != nil {
		return nil, errUnusableKey
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	carried, err := t.client.Dial("", "", func(string, string) (net.Conn, error) { return conn, nil }, parsed)
	if err != nil {
		return nil, fmt.Errorf("obfs4 handshake: %w", err)
	}
	return halfCloser{carried, conn}, nil
}

// Server implements watm.Transport. After a bad handshake it returns only when the
// connection has been read from for as long as the library likes: until then it
// stays open.
func (t *obfs4) Server(ctx context.Context, conn watm.Conn) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	wire := &lentConn{Conn: conn}
	carried, err := t.server.WrapConn(wire)
	if err != nil {
		return nil, fmt.Errorf("obfs4 handshake: %w", err)
	}
	wire.given = true
	return halfCloser{carried, conn}, nil
}

// lentConn is closed by its user only once it has been given away: the host is to
// learn why a handshake failed before the connection ends.
type lentConn struct {
	watm.Conn
	given bool
}

func (c *lentConn) Close() error {
	if !c.given {
		return nil
	}
	return c.Conn.Close()
}

// halfCloser adds the end of one direction to the library's connection: every Write
// has put its frames into the connection below when it returns.
type halfCloser struct {
	net.Conn
	wire watm.Conn
}

func (c halfCloser) CloseWrite() error { return c.wire.CloseWrite() }

func main() { watm.Run(&obfs4{}) }
