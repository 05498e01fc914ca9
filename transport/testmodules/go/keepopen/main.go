//go:build wasip1

// Command keepopen is a passthrough whose server has failed connections kept open, for
// as long as its configuration says (as time.ParseDuration reads it). The first line of
// a client decides what becomes of its set-up:
//
//	go     it succeeds
//	fail   it is refused
//	crash  the instance fails
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"waterproxy/watm"
)

type keepopen struct{}

// Start implements watm.Starter.
func (keepopen) Start(env *watm.Env) error {
	d, err := time.ParseDuration(string(env.Config))
	if err != nil {
		return err
	}
	env.KeepOpen(d)
	return nil
}

// Client implements watm.Transport.
func (keepopen) Client(_ context.Context, conn watm.Conn, _ watm.Args) (net.Conn, error) {
	return conn, nil
}

// Server implements watm.Transport.
func (keepopen) Server(_ context.Context, conn watm.Conn) (net.Conn, error) {
	var line []byte
	for b := []byte{0}; b[0] != '\n'; line = append(line, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, err
		}
	}
	switch string(line) {
	case "go\n":
		return conn, nil
	case "fail\n":
		return nil, errors.New("this is the failure that was asked for")
	case "crash\n": // the SDK cannot recover from this one
		go panic("as was asked for")
		select {}
	}
	return nil, fmt.Errorf("%q is no order", line)
}

func main() { watm.Run(keepopen{}) }
