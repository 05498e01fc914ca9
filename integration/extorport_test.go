package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"waterproxy/internal/tornet"
)

// clientHost is the address from which the bridge's transport is dialed in this
// test: one that nothing else on the machine has.
const clientHost = "127.0.0.77"

// TestExtORPort uses a bridge that offers the Extended ORPort: its tor must
// learn the address of the client, not that of our own connection to it.
func TestExtORPort(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	web := startWeb(t, 1<<20)
	plugins := []tornet.Plugin{{Transports: []string{"plain"}, Exec: []string{waterproxy(t)}}}
	bridge := startBridge(ctx, t, tornet.BridgeOptions{
		Plugins:   plugins,
		ExtORPort: true,
		Logs:      map[string]string{"net.log": "[net]debug"},
	})
	address := bridge.Address("plain")
	way := startDetour(t, address, clientHost)
	line, err := bridge.Line("plain")
	if err != nil {
		t.Fatal(err)
	}
	client := startClient(ctx, t, tornet.ClientOptions{
		Plugins:     plugins,
		BridgeLines: []string{strings.Replace(line, address, way.address(), 1)},
	})
	fetch(ctx, t, web, client)

	for _, source := range way.sources() {
		rewritten := regexp.MustCompile(`Received USERADDR.*We rewrite our address from .* to '` +
			regexp.QuoteMeta(source) + `'`)
		if _, err := bridge.WaitLog(ctx, "net.log", rewritten); err != nil {
			t.Error(err)
		}
	}
}

// detour passes connections on to an address, from another address of this
// machine than the one they come from.
type detour struct {
	listener net.Listener
	to       string
	dialer   net.Dialer

	mu    sync.Mutex
	from  []string // the local address of each connection
	conns []net.Conn
	done  sync.WaitGroup
}

func startDetour(t *testing.T, to, host string) *detour {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &detour{
		listener: listener,
		to:       to,
		dialer:   net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}},
	}
	d.done.Go(func() { d.serve(t) })
	t.Cleanup(d.close)
	return d
}

func (d *detour) address() string { return d.listener.Addr().String() }

// sources returns the local address of each connection that was passed on.
func (d *detour) sources() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.from...)
}

func (d *detour) serve(t *testing.T) {
	for {
		in, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("the detour accepts no more: %v", err)
			return
		}
		out, err := d.dialer.DialContext(context.WithoutCancel(t.Context()), "tcp", d.to)
		if err != nil {
			t.Errorf("the detour cannot go on: %v", err)
			in.Close()
			return
		}
		d.mu.Lock()
		d.from = append(d.from, out.LocalAddr().String())
		d.conns = append(d.conns, in, out)
		d.mu.Unlock()
		d.done.Go(func() { passOn(out, in) })
		d.done.Go(func() { passOn(in, out) })
	}
}

// passOn copies one direction, its end included. An error shows at both ends
// as a connection that breaks.
func passOn(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

func (d *detour) close() {
	d.listener.Close()
	d.mu.Lock()
	for _, conn := range d.conns {
		conn.Close()
	}
	d.mu.Unlock()
	d.done.Wait()
}
