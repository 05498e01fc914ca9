//go:build wasip1

// Command faults is a passthrough that misbehaves on request: a client by the
// arguments of the connection, a server by those in the first line that its peer
// sends, and both at their start by those in the configuration (start.go). In all
// three the syntax is that of a bridge line.
//
//	check    a fault of the arguments' check
//	setup    a fault of the connection's set-up
//	read     a fault, once a byte has come from the network
//	write    a fault, once a byte is to go there
//	close    a fault when the connection is closed; or ignore, or flush
//	connect  what a client dials: see connect
//	tell     what the caller reads before anything else: see report
//
// A fault is one of those that the function commit knows.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/ptargs"
	"waterproxy/watm"
)

// commit commits a fault. It returns if that is an error, or none.
func commit(fault string) error {
	switch fault {
	case "":
		return nil
	case "error":
		return errors.New("this is the error that was asked for")
	case "panic":
		panic("as was asked for")
	case "crash": // the SDK cannot recover from this one
		go panic("as was asked for")
		hang()
	case "exit":
		os.Exit(3)
	case "spin":
		for {
		}
	case "hang":
		hang()
	}
	return fmt.Errorf("there is no fault %q", fault)
}

func hang() {
	for {
		time.Sleep(time.Hour)
	}
}

type faults struct{}

func (faults) Start(env *watm.Env) error { return start(env) }

func (faults) CheckArgs(args watm.Args) error {
	fault, _ := args.Get("check")
	return commit(fault)
}

// Client is called by Dial, as there is one.
func (faults) Client(ctx context.Context, conn watm.Conn, args watm.Args) (net.Conn, error) {
	return wrap(ctx, conn, args)
}

func (faults) Server(ctx context.Context, conn watm.Conn) (net.Conn, error) {
	var line []byte
	for b := []byte{0}; ; line = append(line, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			break
		}
	}
	args, err := ptargs.Parse(string(line))
	if err != nil {
		return nil, err
	}
	return wrap(ctx, conn, args)
}

func (f faults) Dial(ctx context.Context, r *watm.Request) (net.Conn, error) {
	conn, err := connect(ctx, r)
	if err != nil {
		return nil, err
	}
	return f.Client(ctx, conn, r.Args)
}

// connect makes the network connection, or connections, of a client.
func connect(ctx context.Context, r *watm.Request) (watm.Conn, error) {
	address, _ := r.Args.Get("address")
	switch how, _ := r.Args.Get("connect"); how {
	case "":
		return r.Connect(ctx)
	case "none":
		return newEcho(), nil
	case "to":
		return r.ConnectTo(ctx, "tcp", address)
	case "far": // longer than the record that asks for it
		return r.ConnectTo(ctx, "tcp", strings.Repeat("a", 5000)+":1")
	case "else": // what it may not dial is no reason to fail
		if _, err := r.ConnectTo(ctx, "tcp", address); err == nil {
			return nil, errors.New("it was let")
		}
		return r.Connect(ctx)
	case "twice": // one to write to, one to read from
		out, err := r.Connect(ctx)
		if err != nil {
			return nil, err
		}
		in, err := r.Connect(ctx)
		return twoWays{in, out}, err
	case "relay": // what was written to one that is closed is still to arrive
		first, err := r.Connect(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := first.Write(make([]byte, 30_000)); err != nil {
			return nil, err
		}
		first.Close()
		return r.Connect(ctx)
	case "again": // when the peer has ended it, and so 100 times
		for range 100 {
			conn, err := r.Connect(ctx)
			if err != nil {
				return nil, err
			}
			_, err = io.Copy(io.Discard, conn)
			if err := errors.Join(err, conn.Close()); err != nil {
				return nil, err
			}
		}
		return r.Connect(ctx)
	case "hoard", "spend":
		for {
			conn, err := r.Connect(ctx)
			if err != nil {
				return nil, err
			}
			if how == "spend" {
				conn.Close()
			}
		}
	default:
		return nil, fmt.Errorf("there is no way to connect %q", how)
	}
}

func wrap(ctx context.Context, wire watm.Conn, args watm.Args) (net.Conn, error) {
	c := &conn{Conn: wire, args: args}
	setup := c.fault("setup")
	if setup == "wait" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if what, ok := args.Get("tell"); ok {
		c.first = strings.NewReader(report(what, args))
	}
	return c, commit(setup)
}

// report is a line about the module.
func report(what string, args watm.Args) string {
	switch what {
	case "goroutines":
		return fmt.Sprintln(runtime.NumGoroutine())
	case "arguments":
		return describe(args) + "\n"
	}
	return fmt.Sprintf("there is no report on %q\n", what)
}

// describe writes arguments in a form of its own, in which no byte is special.
func describe(args watm.Args) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(args)) {
		for _, value := range args[name] {
			all = append(all, hex.EncodeToString([]byte(name))+"-"+hex.EncodeToString([]byte(value)))
		}
	}
	return strings.Join(all, ",")
}

// conn is a connection with faults.
type conn struct {
	watm.Conn
	args  watm.Args
	first io.Reader // read before the network; nil if there is nothing
}

func (c *conn) fault(name string) string {
	fault, _ := c.args.Get(name)
	return fault
}

func (c *conn) Read(p []byte) (int, error) {
	if c.first != nil {
		if n, _ := c.first.Read(p); n > 0 {
			return n, nil
		}
		c.first = nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		if err := commit(c.fault("read")); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := commit(c.fault("write")); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	switch fault := c.fault("close"); fault {
	case "ignore":
		return nil
	case "flush": // as transports do that have a last message
		_, err := c.Conn.Write(make([]byte, 64<<20))
		return errors.Join(err, c.Conn.Close())
	default:
		return errors.Join(commit(fault), c.Conn.Close())
	}
}

// twoWays reads from one connection and writes to another.
type twoWays struct {
	watm.Conn // to read from
	out       watm.Conn
}

func (c twoWays) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c twoWays) CloseWrite() error           { return c.out.CloseWrite() }
func (c twoWays) Close() error                { return errors.Join(c.Conn.Close(), c.out.Close()) }

// echo is a connection that ends in the module itself.
type echo struct {
	net.Conn // nobody uses its other methods
	in       *io.PipeReader
	out      *io.PipeWriter
}

func newEcho() echo {
	in, out := io.Pipe()
	return echo{in: in, out: out}
}

func (e echo) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e echo) Write(p []byte) (int, error) { return e.out.Write(p) }
func (e echo) CloseWrite() error           { return e.out.Close() }
func (e echo) Close() error                { return errors.Join(e.out.Close(), e.in.Close()) }

func main() { watm.Run(faults{}) }
