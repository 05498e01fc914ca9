package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"waterproxy/modules"
	"waterproxy/transport"
)

// plain is the module of the examples; a real one would hide what it carries.
func plain() *transport.Module {
	wasm, err := modules.Load("plain")
	if err != nil {
		log.Fatal(err)
	}
	m, err := transport.Compile(wasm, transport.CompileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return m
}

// Both ends of a connection. All connections of an end share instances of the
// module.
func Example() {
	cfg := transport.Config{Module: plain()}

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := transport.Listen(context.Background(), cfg, inner)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.AcceptRuntime()
		if err != nil {
			return
		}
		question, _ := io.ReadAll(c)
		fmt.Fprintf(c, "you said %q", question)
		c.Close()
	}()

	d, err := transport.NewRuntimeDialer(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	c.CloseWrite()
	answer, err := io.ReadAll(c)
	fmt.Println(string(answer), err)
	// Output: you said "hello" <nil>
}

// What a module offers is known before anything is dialed.
func ExampleModule_CheckRole() {
	m := plain()
	fmt.Println(m.ABI())
	fmt.Println(m.CheckRole(transport.RoleClient))
	// Output:
	// v1
	// <nil>
}

// A dialer can be used wherever a dialing function is wanted.
func ExampleRuntimeConnDialer_DialContext() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}()

	d, err := transport.NewRuntimeConnDialer(transport.Config{Module: plain()})
	if err != nil {
		log.Fatal(err)
	}
	c, err := d.DialContext(context.Background(), "tcp", server.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "there and back")
	c.CloseWrite()
	echo, err := io.ReadAll(c)
	fmt.Println(string(echo), err)
	// Output: there and back <nil>
}

// A relay joins each connection that it accepts to one that it dials. In front of
// a server that knows nothing of modules, one with a server's module makes a
// bridge of it.
func ExampleNewRelay() {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer target.Close()
	go func() {
		c, err := target.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	r, err := transport.NewRelay(transport.Config{Module: plain()}, inner, "tcp", target.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(c, "there and back")
	c.(*net.TCPConn).CloseWrite()
	back, err := io.ReadAll(c)
	fmt.Println(string(back), err)
	r.Close()
	fmt.Println(r.Wait())
	// Output:
	// there and back <nil>
	// <nil>
}

// What a module may use is bounded; zero values stand for defaults.
func ExampleConfig() {
	cfg := transport.Config{
		Module:       plain(),
		Instances:    2,                // for all connections
		MaxConns:     1000,             // of each instance
		MaxMemory:    64 << 20,         // bytes, of each instance
		SetupTimeout: 10 * time.Second, // of a connection
	}
	fmt.Println(cfg.Validate())
	// Output: <nil>
}

// A listener of a RuntimeDialer's kind: its connections come from the network, and are
// accepted after the module's handshake.
func ExampleListen() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := transport.Listen(context.Background(), transport.Config{Module: plain()}, inner)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(l.Args()), "arguments are for the bridge line")
	l.Close()
	_, err = l.AcceptRuntime()
	fmt.Println("closed:", errors.Is(err, net.ErrClosed))
	// Output:
	// 0 arguments are for the bridge line
	// closed: true
}

// New connections are dialed through a new version of a module; those that are up go on.
func ExampleReloadableDialer_Reload() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	d, err := transport.NewReloadableDialer(transport.Config{Module: plain()})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	before, err := d.Dial(context.Background(), "tcp", server.Addr().String(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer before.Close()
	fmt.Println(d.Reload(context.Background(), transport.Config{Module: plain()}))
	far, err := server.Accept()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(far, "still here")
	far.Close()
	text, err := io.ReadAll(before)
	fmt.Println(string(text), err)
	// Output:
	// <nil>
	// still here <nil>
}

// One instance, or a few, carry all connections of a RuntimeDialer.
func ExampleRuntimeDialer() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	d, err := transport.NewRuntimeDialer(transport.Config{Module: plain(), Instances: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	for range 3 {
		c, err := d.DialContext(context.Background(), "tcp", server.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
	}
	fmt.Println(d.Stats().Connections, "connections")
	// Output: 3 connections
}
