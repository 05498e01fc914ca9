//go:build wasip1

// Command plain is a passthrough transport: bytes are on the wire as they are.
// It hides nothing, and is here to test and to measure what carries it.
//
// It speaks the v1 WATM ABI in the client, server and relay roles, and handles the
// end of each direction by itself (watm_posix_io_v1).
package main

import (
	"io"
	"net"
	"os"
	"syscall"
)

// WASI error numbers, returned to the host as negative results.
const (
	ecanceled = 11
	eio       = 29
)

//go:wasmimport env water_dial_fixed
func waterDialFixed() int32

//go:wasmimport env water_accept
func waterAccept() int32

// The one connection of this instance.
var caller, network, control net.Conn

//go:wasmexport watm_posix_io_v1
func posixIO() {}

//go:wasmexport watm_init_v1
func initialize() int32 { return 0 }

//go:wasmexport watm_dial_v1
func dial(callerFD int32) int32 { return connect(callerFD, waterDialFixed()) }

//go:wasmexport watm_accept_v1
func accept(callerFD int32) int32 { return connect(callerFD, waterAccept()) }

//go:wasmexport watm_associate_v1
func associate() int32 {
	if r := connect(waterAccept(), waterDialFixed()); r < 0 {
		return r
	}
	return 0
}

func connect(callerFD, networkFD int32) int32 {
	if callerFD < 0 {
		return callerFD
	}
	if networkFD < 0 {
		return networkFD
	}
	var err error
	if caller, err = fileConn(callerFD); err != nil {
		return -eio
	}
	if network, err = fileConn(networkFD); err != nil {
		return -eio
	}
	return networkFD
}

//go:wasmexport watm_ctrlpipe_v1
func ctrlpipe(fd int32) int32 {
	var err error
	if control, err = fileConn(fd); err != nil {
		return -eio
	}
	return 0
}

//go:wasmexport watm_start_v1
func start() int32 {
	exit := make(chan struct{})
	go func() {
		// Any byte, and the end of the control channel, mean the same.
		control.Read(make([]byte, 1))
		close(exit)
	}()
	done := make(chan struct{}, 2)
	go forward(network, caller, done)
	go forward(caller, network, done)
	for range 2 {
		select {
		case <-done:
		case <-exit:
			return -ecanceled
		}
	}
	return 0
}

// forward copies until the end of src and passes that end on. An error ends this
// direction; the other one notices by itself if it concerns it.
func forward(dst, src net.Conn, done chan<- struct{}) {
	io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 128<<10))
	dst.(interface{ CloseWrite() error }).CloseWrite()
	done <- struct{}{}
}

// fileConn makes a net.Conn of a descriptor.
func fileConn(fd int32) (net.Conn, error) {
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}

func main() {}
