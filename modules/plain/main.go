// Command plain is a passthrough transport: bytes are on the wire as they are.
// It hides nothing, and is here to test and to measure what carries it.
package main

import (
	"context"
	"net"

	"waterproxy/watm"
)

type plain struct{}

func (plain) Client(_ context.Context, conn watm.Conn, _ watm.Args) (net.Conn, error) {
	return conn, nil
}

func (plain) Server(_ context.Context, conn watm.Conn) (net.Conn, error) { return conn, nil }

func main() { watm.Run(plain{}) }
