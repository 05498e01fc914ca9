package managed

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
)

// startClient starts a SOCKS5 proxy for each transport that tor asks for and the catalog
// has (pt-spec 3.3.2, 3.5). Other names are ignored (3.2.2).
func (p *plugin) startClient(ctx context.Context) ([]service.Runner, error) {
	// goptlib does not understand all that tor writes into this variable, and then
	// fails without a line.
	upstream := os.Getenv("TOR_PT_PROXY")
	if err := os.Unsetenv("TOR_PT_PROXY"); err != nil {
		ptlog.EnvError("TOR_PT_PROXY: %v", err)
		return nil, err
	}
	info, err := setup(pt.ClientSetup)
	if err != nil {
		return nil, err
	}
	if err := p.useSources(); err != nil {
		return nil, err
	}
	if err := p.useProxy(upstream); err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(info.MethodNames, func(name string) bool { return !p.Catalog.Has(name) })
	var running []service.Runner
	for name, result := range startConcurrently(ctx, names, func(name string) (*client.Proxy, error) { return p.startProxy(ctx, name) }) {
		proxy, err := result()
		if err != nil {
			_ = pt.CmethodError(name, oneLine(err)) // its error is the line it printed
			continue
		}
		running = append(running, proxy)
		pt.Cmethod(name, "socks5", proxy.Addr())
	}
	pt.CmethodsDone()
	if len(running) == 1 { // of several, tor uses one or two
		go p.Transports.LoadAhead(ctx)
	}
	return running, nil
}

// startProxy starts a client's transport, with a SOCKS5 proxy on a free loopback port.
func (p *plugin) startProxy(ctx context.Context, name string) (*client.Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d, err := p.Transports.NewDialer(ctx, p.options(name, nil))
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return client.Serve(ctx, ln, d, client.Tor{}, client.Options{Transport: name, Log: p.Log, Meter: p.Meter}), nil
}
