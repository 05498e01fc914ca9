package self

import (
	"net"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// One process serves several transports, each at the address it was given.
func TestPTSpec_3_3_3_BindAddresses(t *testing.T) {
	orPort := pttest.Listen(t)
	p := launch(t, serverVariables("a,b,c", orPort.Addr().String()).With(ptproc.Variables{
		"TOR_PT_SERVER_BINDADDR": "a-127.0.0.1:0,b-127.0.0.2:0,c-[::1]:0,unasked-127.0.0.1:0",
	}), modulesFlags("a", "plain_v0", "b", "plain_v1", "c", "posix_v1", "unasked", "plain_v1")...)
	for name, host := range map[string]string{"a": "127.0.0.1", "b": "127.0.0.2", "c": "[::1]"} {
		address := p.Address(name)
		if !strings.HasPrefix(address, host+":") || strings.HasSuffix(address, ":0") {
			t.Errorf("%s listens at %s, want a port of %s", name, address, host)
		}
		pttest.Echo(t, pttest.Dial(t, address), pttest.Accept(t, orPort))
	}
	for _, line := range p.ready() {
		if strings.Contains(line, "unasked") {
			t.Errorf("%q, which tor did not ask for", line)
		}
	}
}

// One process has several client transports.
func TestSeveralClients(t *testing.T) {
	p := launch(t, clientVariables("a,b,plain"), modulesFlags("a", "plain_v0", "b", "posix_v1")...)
	addresses := map[string]bool{}
	for _, name := range []string{"a", "b", "plain"} {
		addresses[p.Address(name)] = true
		echoThrough(t, p.Address(name))
	}
	if len(addresses) != 3 {
		t.Errorf("three transports listen at %d addresses", len(addresses))
	}
}

// While tor's ORPort is down its clients are sent away; the proxy lives on.
func TestORPortDown(t *testing.T) {
	address := pttest.FreeAddress(t)
	p := launch(t, serverVariables("t", address), module("t", "plain_v1")...)
	for range 3 {
		pttest.AwaitClose(t, pttest.Dial(t, p.Address("t")))
	}
	p.Line(`^LOG SEVERITY=warning MESSAGE=".*ORPort.*refused`)
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	pttest.Echo(t, pttest.Dial(t, p.Address("t")), pttest.Accept(t, again))
	for _, line := range p.Stdout.All() {
		if strings.HasPrefix(line, "LOG ") && strings.Contains(line, address) {
			t.Errorf("the address was logged: %s", line)
		}
	}
}

// Connections whose module fails in its set-up or later are closed; others are
// not.
func TestFailingServerConnections(t *testing.T) {
	orPort := pttest.Listen(t)
	bad := []string{"evil_trap_dial_v1", "evil_dial_badfd_v1", "evil_trap_worker_v1", "evil_return_eio_v1"}
	flags := module("t", "plain_v1")
	for _, name := range bad {
		flags = append(flags, module(name, name)...)
	}
	p := launch(t, serverVariables(strings.Join(append(slices.Clone(bad), "t"), ","), orPort.Addr().String()), flags...)
	c := pttest.Dial(t, p.Address("t"))
	or := pttest.Accept(t, orPort)
	for _, name := range bad {
		failing := pttest.Dial(t, p.Address(name))
		go failing.Write(make([]byte, 64<<10)) // an error is to be expected
		pttest.AwaitClose(t, failing)
	}
	pttest.Echo(t, c, or)
}
