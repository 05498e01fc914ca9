package managed

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/server"
	"waterproxy/transport"
)

// startServer starts a listener for each transport that tor asks for and the catalog has
// (pt-spec 3.3.3). Other names are ignored (3.2.3).
func (p *plugin) startServer(ctx context.Context) ([]service.Runner, error) {
	if err := checkASCII(); err != nil {
		return nil, err
	}
	if err := addBindAddrs(); err != nil {
		ptlog.EnvError("TOR_PT_SERVER_BINDADDR: %v", err)
		return nil, err
	}
	info, err := pt.ServerSetup(nil)
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
	for bind, result := range startConcurrently(ctx, binds, func(b pt.Bindaddr) (*server.Listener, error) { return p.startListener(ctx, b, &info) }) {
		l, err := result()
		if err != nil {
			_ = pt.SmethodError(bind.MethodName, oneLine(err)) // its error is the line it printed
			continue
		}
		running = append(running, l)
		announce(bind.MethodName, l)
	}
	pt.SmethodsDone()
	return running, nil
}

// startListener starts a server's transport. One that has started before is loaded
// when its first client comes.
func (p *plugin) startListener(ctx context.Context, bind pt.Bindaddr, info *pt.ServerInfo) (*server.Listener, error) {
	name, args := bind.MethodName, transport.Args(bind.Options)
	l, err := server.Listen(ctx, name, bind.Addr, p.orPort(info), p.Log, p.Meter)
	if err != nil {
		return nil, err
	}
	target := &remembered{l, p, name, transport.RoleServer, args, l.Published}
	if published, ok := p.Catalog.Started(name, transport.RoleServer, args); ok {
		l.ServeLater(p.Loaded.StartLater(name, p.adjust(args), target), published)
		return l, nil
	}
	if err := p.Loaded.Start(ctx, name, p.adjust(args), target); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.Serve()
	return l, nil
}

// announce prints a listener's line, with ARGS if the module has published any.
func announce(name string, l *server.Listener) {
	if args := l.Args(); args != nil {
		pt.SmethodArgs(name, l.Addr(), args)
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
