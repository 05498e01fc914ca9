package managed

import (
	"cmp"
	"context"
	"slices"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/service"
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
	binds := slices.DeleteFunc(info.Bindaddrs, func(b pt.Bindaddr) bool { return !p.Catalog.Has(b.MethodName) })
	var running []service.Runner
	for bind, result := range startConcurrently(ctx, binds, func(b pt.Bindaddr) (*listener, error) { return p.startListener(ctx, b, &info) }) {
		l, err := result()
		if err != nil {
			_ = pt.SmethodError(bind.MethodName, oneLine(err)) // its error is the line it printed
			continue
		}
		running = append(running, l)
		l.announce(bind.MethodName)
	}
	pt.SmethodsDone()
	go p.Transports.LoadAhead(ctx)
	return running, nil
}

// listener is a server's transport with what tor has to know of it.
type listener struct {
	*server.Listener
	published transport.Args
}

// startListener starts a server's transport.
func (p *plugin) startListener(ctx context.Context, bind pt.Bindaddr, info *pt.ServerInfo) (*listener, error) {
	inner, err := server.Listen(bind.Addr)
	if err != nil {
		return nil, err
	}
	ln, published, err := p.Transports.NewListener(ctx, p.options(bind.MethodName, transport.Args(bind.Options)), inner)
	if err != nil {
		return nil, err
	}
	l := server.Serve(ln, p.orPort(info), server.Options{Transport: bind.MethodName, Log: p.Log, Meter: p.Meter})
	return &listener{l, published}, nil
}

// announce prints a listener's line, with ARGS if the module has published any.
func (l *listener) announce(name string) {
	if l.published != nil {
		pt.SmethodArgs(name, l.Addr(), pt.Args(l.published))
		return
	}
	pt.Smethod(name, l.Addr())
}

// orPort returns where tor takes connections, and the way there.
func (p *plugin) orPort(info *pt.ServerInfo) server.ORPort {
	or := server.ORPort{Addr: info.OrAddr, Extended: info.ExtendedOrAddr, CookieFile: info.AuthCookiePath}
	addr := cmp.Or(or.Extended, or.Addr)
	or.LocalAddr = p.outbound.LocalAddr("tcp", addr.AddrPort().Addr())
	return or
}
