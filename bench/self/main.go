// Command self is the helper of the bench command that measures this project's
// runtime library, package transport, with its default settings.
package main

import (
	"context"
	"net"
	"os"

	"waterproxy/bench/internal/oneside"
	"waterproxy/transport"
)

func main() { os.Exit(oneside.Main(open)) }

func open(_ context.Context, wasm []byte, cache string) (oneside.Dialer, error) {
	module, err := transport.Compile(wasm, transport.CompileOptions{CacheDir: cache})
	if err != nil {
		return nil, err
	}
	dialer, err := transport.NewRuntimeConnDialer(transport.Config{Module: module})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err // not a nil *RuntimeConn in a net.Conn
		}
		return conn, nil
	}, nil
}
