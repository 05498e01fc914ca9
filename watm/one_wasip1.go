package watm

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// An instance that carries one connection: the v1 ABI.

//go:wasmimport env water_dial_fixed
func waterDialFixed() int32

//go:wasmimport env water_dial
func waterDial(net unsafe.Pointer, nets uint32, addr unsafe.Pointer, addrs uint32) int32

//go:wasmimport env water_accept
func waterAccept() int32

// one is the connection of the instance.
var one struct {
	join    join
	network int32 // the first descriptor of the network's side
	control net.Conn
}

//go:wasmexport watm_dial_v1
func dialOne(caller int32) int32 { return clientOne(caller, note(targetFile)) }

//go:wasmexport watm_dial_fixed_v1
func dialFixedOne(caller int32) int32 { return clientOne(caller, "") }

// associateOne is the relay role: a server whose caller is a connection that is
// dialed.
//
//go:wasmexport watm_associate_v1
func associateOne() int32 {
	if r := start(true); r < 0 {
		return r
	}
	network := waterAccept()
	if network < 0 {
		return network
	}
	caller := waterDialFixed()
	if caller < 0 {
		return caller
	}
	return min(serverOne(caller, network), 0)
}

// clientOne sets up the connection of a client.
func clientOne(caller int32, target string) int32 {
	if r := start(false); r < 0 {
		return r
	}
	one.network = -1
	return setUpOne(caller, func(ctx context.Context) (net.Conn, error) {
		r, err := newRequest(target, note(argsFile))
		if err != nil {
			return nil, err
		}
		r.dial = dialForOne
		return dial(ctx, r)
	})
}

// dial lets the transport make the wire's connection.
func dial(ctx context.Context, r *Request) (net.Conn, error) {
	if d, ok := transport.(Dialer); ok {
		return d.Dial(ctx, r)
	}
	conn, err := r.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return transport.Client(ctx, conn, r.Args)
}

func dialForOne(_ context.Context, target string, _ bool) (Conn, error) {
	var fd int32
	if target == "" {
		fd = waterDialFixed()
	} else {
		network, address, _ := strings.Cut(target, " ")
		n, a := iovec(network), iovec(address)
		fd = waterDial(unsafe.Pointer(&n), 1, unsafe.Pointer(&a), 1)
		runtime.KeepAlive(network)
		runtime.KeepAlive(address)
	}
	if fd < 0 {
		return nil, syscall.Errno(-fd)
	}
	if one.network < 0 {
		one.network = fd
	}
	return openConn(fd)
}

// iovec describes a string to the host. The string has to be kept alive.
func iovec(s string) [2]uint32 {
	return [2]uint32{uint32(uintptr(unsafe.Pointer(unsafe.StringData(s)))), uint32(len(s))}
}

//go:wasmexport watm_accept_v1
func acceptOne(caller int32) int32 {
	if r := start(true); r < 0 {
		return r
	}
	network := waterAccept()
	if network < 0 {
		return network
	}
	return serverOne(caller, network)
}

// serverOne sets up the connection of a server.
func serverOne(caller, network int32) int32 {
	one.network = network
	return setUpOne(caller, func(ctx context.Context) (net.Conn, error) {
		conn, err := openConn(network)
		if err != nil {
			return nil, err
		}
		if a, ok := transport.(Acceptor); ok {
			return acceptFirst(ctx, a, conn)
		}
		return transport.Server(ctx, conn)
	})
}

// acceptFirst takes the first of the callers' connections; the instance has one.
func acceptFirst(ctx context.Context, a Acceptor, conn Conn) (net.Conn, error) {
	first := make(chan net.Conn, 1)
	ended := make(chan error, 1)
	go func() {
		taken := false
		err := guarded(func() error {
			return a.Accept(ctx, conn, func(c net.Conn) error {
				if taken {
					return errors.Join(errors.New("this instance carries one connection"), c.Close())
				}
				taken = true
				first <- c
				return nil
			})
		})
		if err == nil {
			err = net.ErrClosed
		}
		ended <- err
	}()
	select {
	case c := <-first:
		return c, nil
	case err := <-ended:
		return nil, err
	}
}

// setUpOne makes both ends of the connection and returns the network's descriptor.
func setUpOne(caller int32, wire func(context.Context) (net.Conn, error)) int32 {
	err := guarded(func() (err error) {
		if one.join.caller, err = openConn(caller); err != nil {
			return err
		}
		one.join.wire, err = wire(context.Background())
		return err
	})
	if err != nil {
		return fail(err)
	}
	return one.network
}

//go:wasmexport watm_ctrlpipe_v1
func controlOne(fd int32) int32 {
	var err error
	if one.control, err = fileConn(fd); err != nil {
		return fail(err)
	}
	return 0
}

//go:wasmexport watm_start_v1
func runOne() int32 {
	exit := make(chan struct{})
	go func() {
		// Any byte, and the end of the control channel, mean the same.
		one.control.Read(make([]byte, 1))
		close(exit)
	}()
	ended := make(chan error, 1)
	one.join.ended = func(err error) { ended <- err }
	go one.join.run()
	select {
	case <-exit:
		return -ecanceled
	case err := <-ended:
		if err != nil {
			return fail(err)
		}
		return 0
	}
}
