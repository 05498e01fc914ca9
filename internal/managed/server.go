package managed

import (
	"context"
	"net"
	"os"
	"slices"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/service"
	"waterproxy/internal/walls"
	"waterproxy/server"
	"waterproxy/transport"
)

// startServer starts a listener for each transport that tor asks for and the catalog has
// (pt-spec 3.3.3). Other names are ignored (3.2.3).
func (p *plugin) startServer(ctx context.Context) ([]service.Runner, error) {
	info, err := serverSetup()
	if err != nil {
		return nil, err
	}
	if err := p.useSources(); err != nil {
		return nil, err
	}
	if or := info.ExtendedOrAddr; or != nil && !or.IP.IsLoopback() {
		// ext-orport-spec 4
		p.Log.Warn("the Extended ORPort is on another machine: whoever is on the way sees the clients' addresses")
	}
	p.Reach("", os.Getenv(sourceV4), os.Getenv(sourceV6))
	var asked []string
	for _, b := range info.Bindaddrs {
		asked = append(asked, b.MethodName)
	}
	offered := p.offered(ctx, asked, pt.SmethodError)
	binds := slices.DeleteFunc(info.Bindaddrs, func(b pt.Bindaddr) bool { return !slices.Contains(offered, b.MethodName) })
	ports := make([]bound, len(binds)) // before the walls, which leave no port to bind
	names := make([]string, len(binds))
	options := map[string]transport.Args{}
	for i, b := range binds {
		names[i], options[b.MethodName] = b.MethodName, transport.Args(b.Options)
		ports[i] = bound{name: b.MethodName, err: p.Transports.CheckServer(p.options(b.MethodName, transport.Args(b.Options)))}
		if ports[i].err == nil {
			ports[i].ln, ports[i].err = server.Listen(b.Addr)
		}
	}
	or := p.orPort(&info)
	needs := p.needs(names, walls.Port(or.Dialed().AddrPort().Port()))
	needs.Servers = true
	if or.Extended != nil {
		needs.Files = []string{or.CookieFile}
	}
	p.RaiseWalls(needs)
	var running []service.Runner
	for b, result := range startConcurrently(ctx, ports, func(b bound) (*listener, error) { return p.startListener(ctx, b, options[b.name], or) }) {
		l, err := result()
		if err != nil {
			_ = pt.SmethodError(b.name, oneLine(err)) // its error is the line it printed
			continue
		}
		running = append(running, l)
		l.announce(b.name)
	}
	pt.SmethodsDone()
	go p.Transports.LoadAhead(ctx)
	return running, nil
}

// listener is a server's transport with what tor has to know of it.
type listener struct {
	*server.Listener
	published transport.Published
}

// startListener starts a server's transport with what tor has set for it.
func (p *plugin) startListener(ctx context.Context, b bound, options transport.Args, or server.ORPort) (*listener, error) {
	if b.err != nil {
		return nil, b.err
	}
	ln, published, err := p.Transports.NewListener(ctx, p.options(b.name, options), b.ln)
	if err != nil {
		return nil, err
	}
	l := server.Serve(ln, or, server.Options{Transport: b.name, Log: p.Log, Meter: p.Meter})
	return &listener{l, published}, nil
}

// announce prints a listener's line, with the address and ARGS that the module has published,
// if any.
func (l *listener) announce(name string) {
	addr := l.Addr()
	if p := l.published.Address; p.IsValid() {
		addr = net.TCPAddrFromAddrPort(p)
	}
	if l.published.Args != nil {
		pt.SmethodArgs(name, addr, pt.Args(l.published.Args))
		return
	}
	pt.Smethod(name, addr)
}

// orPort returns where tor takes connections, and the way there.
func (p *plugin) orPort(info *pt.ServerInfo) server.ORPort {
	or := server.ORPort{Addr: info.OrAddr, Extended: info.ExtendedOrAddr, CookieFile: info.AuthCookiePath}
	or.LocalAddr = p.outbound.LocalAddr("tcp", or.Dialed().AddrPort().Addr())
	return or
}
