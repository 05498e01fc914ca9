// Command peer is the helper of the bench command that measures the Go
// implementation of W.A.T.E.R., github.com/refraction-networking/water, with its
// default settings.
package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/refraction-networking/water"
	v0 "github.com/refraction-networking/water/transport/v0"
	_ "github.com/refraction-networking/water/transport/v1" // registers its dialer

	"waterproxy/bench/internal/oneside"
)

func main() { os.Exit(oneside.Main(open)) }

// open needs no cache directory: the library makes one where temporary files are.
func open(ctx context.Context, s oneside.Setting) (oneside.Dialer, error) {
	config := &water.Config{TransportModuleBin: s.Wasm}
	dialer, err := water.NewDialerWithContext(ctx, config)
	if errors.Is(err, water.ErrDialerVersionNotFound) {
		// v0 modules written in Rust lack the export that marks the version.
		dialer, err = v0.NewDialerWithContext(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		// In this library the context of a dial is that of the connection: its
		// end would end the connection.
		return dialer.DialContext(context.WithoutCancel(ctx), network, address)
	}, nil
}
