// Command obfs4 is the obfs4 transport, compatible with obfs4proxy and lyrebird on
// the wire, in the arguments and in the files that a bridge keeps (obfs4-spec).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"waterproxy/watm"
	_ "waterproxy/watm/singleinstance" // one replay filter for all
)

// obfs4 is one side of the transport.
type obfs4 struct{ server *server }

// How long a handshake may take on each side.
const (
	clientTimeout = 60 * time.Second
	serverTimeout = 30 * time.Second
)

// server is what all connections of a bridge have in common.
type server struct {
	state
	shape   *shape
	replays *replayFilter
	delay   time.Duration // from its beginning to the end of a connection with a bad handshake
}

// Start implements watm.Starter.
func (t *obfs4) Start(env *watm.Env) error {
	if !env.Server {
		return nil
	}
	if env.StateDir == "" {
		return errNoState
	}
	if err := checkServerArgs(env.Args); err != nil {
		return err
	}
	st, err := keepState(env.StateDir, env.Args)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	t.server = newServer(st)
	env.KeepOpen(t.server.delay)
	return env.Publish(st.clientArgs())
}

func newServer(st state) *server {
	return &server{state: st, shape: newShape(&st.seed, st.iatMode), replays: newReplayFilter(), delay: st.closeDelay()}
}

// Client implements watm.Transport. CheckArgs has checked the arguments.
func (t *obfs4) Client(ctx context.Context, wire watm.Conn, args watm.Args) (net.Conn, error) {
	bridge, err := parseClientArgs(args)
	if err != nil {
		return nil, err
	}
	// The key comes first: how long it takes is not to show between two messages.
	h := &clientHandshake{bridge: &bridge.identity, prefix: bridge.prefix, session: sessionKeysAhead.take()}
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	c, err := h.run(wire, bridge.iatMode)
	if err != nil {
		return nil, fmt.Errorf("obfs4 handshake: %w", err)
	}
	return c, nil
}

// handshakeBuffer has room for a handshake, and for what may come with it.
type handshakeBuffer [2 * maxHandshake]byte

var handshakeBuffers = sync.Pool{New: func() any { return new(handshakeBuffer) }}

// run shakes hands with a server.
func (h *clientHandshake) run(wire watm.Conn, iatMode int) (*conn, error) {
	if err := wire.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return nil, err
	}
	if _, err := wire.Write(h.message(time.Now())); err != nil {
		return nil, err
	}
	buf := handshakeBuffers.Get().(*handshakeBuffer)
	defer handshakeBuffers.Put(buf)
	got := 0
	for {
		n, err := wire.Read(buf[got:])
		if got += n; err != nil {
			return nil, noHandshake(err)
		}
		end, secret, err := h.answered(buf[:got])
		if err == errMore {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := wire.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		out, in := sessionKeys(&secret)
		c := newConn(wire, iatMode, out, in)
		c.client = true
		// The server's seed comes with its answer: the first write is to have it already.
		return c, c.open(buf[end:got], c.read.Keep)
	}
}

// noHandshake describes the end of a connection before the handshake was complete.
func noHandshake(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func newConn(wire watm.Conn, iatMode int, out, in *direction) *conn {
	return &conn{Conn: wire, iatMode: iatMode, out: out, in: opener{direction: in}}
}

// Server implements watm.Transport. After a bad handshake it returns only when the
// connection has been read from for as long as the state says: until then it stays open.
func (t *obfs4) Server(ctx context.Context, wire watm.Conn) (net.Conn, error) {
	began := time.Now()
	defer context.AfterFunc(ctx, func() { wire.Close() })()
	c, err := t.server.handshake(wire, began)
	if err == nil {
		return c, nil
	}
	if err := wire.SetReadDeadline(began.Add(t.server.delay)); err == nil {
		_, _ = io.Copy(io.Discard, wire) // until the peer or the delay ends it
	}
	return nil, fmt.Errorf("obfs4 handshake: %w", err)
}

// handshake shakes hands with a client.
func (s *server) handshake(wire watm.Conn, began time.Time) (*conn, error) {
	h := &serverHandshake{bridge: &s.bridge, private: &s.private, prefixes: s.prefixes, replays: s.replays, session: sessionKeysAhead.take()}
	if err := wire.SetDeadline(began.Add(serverTimeout)); err != nil {
		return nil, err
	}
	buf := handshakeBuffers.Get().(*handshakeBuffer)
	defer handshakeBuffers.Put(buf)
	for got := 0; ; {
		n, err := wire.Read(buf[got:])
		if got += n; err != nil {
			return nil, noHandshake(err)
		}
		if err := h.asked(buf[:got], time.Now()); !errors.Is(err, errMore) {
			if err != nil {
				return nil, err
			}
			break
		}
	}
	if err := wire.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	in, out := sessionKeys(&h.secrets.seed)
	c := newConn(wire, s.iatMode, out, in)
	c.shape.Store(s.shape)
	answer, err := out.seal(h.message(), typeSeed, s.seed[:], 0)
	if err == nil {
		_, err = wire.Write(answer)
	}
	return c, err
}

func main() { watm.Run(&obfs4{}) }
