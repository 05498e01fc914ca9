package managed

import (
	"context"
	"errors"
	"net"
	"os"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/walls"
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
	p.Reach(upstream, os.Getenv(sourceV4), os.Getenv(sourceV6))
	names := p.offered(ctx, info.MethodNames, pt.CmethodError)
	entrances := make([]bound, len(names)) // before the walls, which leave no port to bind
	for i, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		entrances[i] = bound{name, ln, err}
	}
	needs := p.needs(names, walls.AnyPort)
	if p.outbound.Proxy != nil {
		needs.Connect = []walls.PortRange{walls.Port(p.outbound.Proxy.Port()), walls.DNS}
	}
	p.RaiseWalls(needs)
	var running []service.Runner
	for b, result := range startConcurrently(ctx, entrances, func(b bound) (*client.Proxy, error) { return p.startProxy(ctx, b) }) {
		proxy, err := result()
		if err != nil {
			_ = pt.CmethodError(b.name, oneLine(err)) // its error is the line it printed
			continue
		}
		running = append(running, proxy)
		pt.Cmethod(b.name, "socks5", proxy.Addr())
	}
	pt.CmethodsDone()
	if len(running) == 1 { // of several, tor uses one or two
		go p.Transports.LoadAhead(ctx)
	}
	return running, nil
}

// startProxy starts a client's transport, with a SOCKS5 proxy on a loopback port.
func (p *plugin) startProxy(ctx context.Context, b bound) (*client.Proxy, error) {
	if b.err != nil {
		return nil, b.err
	}
	d, err := p.Transports.NewDialer(ctx, p.options(b.name, nil))
	if err != nil {
		return nil, errors.Join(err, b.ln.Close())
	}
	return client.Serve(ctx, b.ln, d, client.Tor{}, client.Options{Transport: b.name, Log: p.Log, Meter: p.Meter}), nil
}
