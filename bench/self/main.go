// Command self is the helper of the bench command that measures this project's
// runtime library, package transport, with its default settings, but for one
// thing: a RuntimeDialer and a Listener have one instance each, whatever the
// number of processors.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"waterproxy/bench/internal/holder"
	"waterproxy/bench/internal/oneside"
	"waterproxy/transport"
)

// Variants: what dials, and with spliced after it, that a socket is in the place
// of the connection's user, as in the executable.
const (
	runtimeConn   = "RuntimeConn"
	runtimeDialer = "RuntimeDialer"
	spliced       = ":splice"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == holder.Command {
		os.Exit(holder.Main(os.Args[2:], holder.Library{Open: open, Listen: listen}))
	}
	os.Exit(oneside.Main(open))
}

func open(ctx context.Context, s oneside.Setting) (oneside.Dialer, error) {
	cfg, err := config(s)
	if err != nil {
		return nil, err
	}
	variant, splices := strings.CutSuffix(s.Variant, spliced)
	var d transport.Dialer
	switch variant {
	case runtimeConn, "":
		d, err = transport.NewRuntimeConnDialer(cfg)
	case runtimeDialer:
		if d, err = transport.NewRuntimeDialer(cfg); err == nil {
			err = d.Start(ctx)
		}
	default:
		return nil, unknown(s.Variant)
	}
	if err != nil {
		return nil, err
	}
	user := func(c transport.Conn) (net.Conn, error) { return c, nil }
	if splices {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		user = (&splicer{Listener: inner}).splice
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.Dial(ctx, network, address, nil)
		if err != nil {
			return nil, err
		}
		return user(c)
	}, nil
}

func listen(ctx context.Context, s oneside.Setting, inner net.Listener) (net.Listener, error) {
	cfg, err := config(s)
	if err != nil {
		return nil, err
	}
	switch s.Variant {
	case runtimeConn:
		cfg.Instances = transport.InstancePerConn
	case runtimeDialer:
	default:
		return nil, unknown(s.Variant)
	}
	return transport.Listen(ctx, cfg, inner)
}

func config(s oneside.Setting) (transport.Config, error) {
	module, err := transport.Compile(s.Wasm, transport.CompileOptions{CacheDir: s.Cache})
	return transport.Config{Module: module}, err
}

func unknown(variant string) error { return fmt.Errorf("the library has no variant %q", variant) }

// splicer makes the pairs of sockets that take the places of users.
type splicer struct {
	net.Listener
	mu sync.Mutex // one pair at a time, so that its ends belong together
}

// splice returns the far end of the socket that it splices to c.
func (s *splicer) splice(c transport.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		return nil, errors.Join(err, c.Abort())
	}
	peer, err := s.Accept()
	if err != nil {
		return nil, errors.Join(err, user.Close(), c.Abort())
	}
	// The user sees at its own end when the connection fails.
	go func() { _ = c.Splice(peer) }()
	return user, nil
}
