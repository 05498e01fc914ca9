package main

import (
	"context"
	"errors"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/reload"
	"waterproxy/server"
	"waterproxy/transport"
)

// startProxy starts a client's transport. One that has started before is loaded with
// its first connection.
func (m *managed) startProxy(ctx context.Context, name string) (*client.Proxy, error) {
	p, err := client.Listen(ctx, name, m.log, m.meter)
	if err != nil {
		return nil, err
	}
	target := &remembered{p, m, name, transport.RoleClient, nil, func() transport.Args { return nil }}
	if _, ok := m.catalog.Started(name, transport.RoleClient, nil); ok {
		p.Serve(m.loaded.StartLater(name, m.adjust(nil), target))
		return p, nil
	}
	if err := m.loaded.Start(ctx, name, m.adjust(nil), target); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.Serve(nil)
	return p, nil
}

// startListener starts a server's transport. One that has started before is loaded
// when its first client comes.
func (m *managed) startListener(ctx context.Context, bind pt.Bindaddr, info *pt.ServerInfo) (*server.Listener, error) {
	name, args := bind.MethodName, transport.Args(bind.Options)
	l, err := server.Listen(ctx, name, bind.Addr, m.orPort(info), m.log, m.meter)
	if err != nil {
		return nil, err
	}
	target := &remembered{l, m, name, transport.RoleServer, args, l.Published}
	if published, ok := m.catalog.Started(name, transport.RoleServer, args); ok {
		l.ServeLater(m.loaded.StartLater(name, m.adjust(args), target), published)
		return l, nil
	}
	if err := m.loaded.Start(ctx, name, m.adjust(args), target); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.Serve()
	return l, nil
}

// adjust completes the configuration of a transport: the arguments of a server, and
// the way to whatever its module connects to.
func (m *managed) adjust(args transport.Args) func(*transport.Config) {
	return func(cfg *transport.Config) {
		cfg.Args = args
		cfg.Dial = m.outbound.DialContext
		cfg.DialNames = m.outbound.Proxy != nil
	}
}

// remembered is a transport of which the catalog learns that it has started.
type remembered struct {
	reload.Target
	m         *managed
	name      string
	role      transport.Role
	args      transport.Args
	published func() transport.Args
}

func (r *remembered) Reload(ctx context.Context, cfg transport.Config) error {
	if err := r.Target.Reload(ctx, cfg); err != nil {
		return err
	}
	r.m.catalog.Remember(r.name, r.role, r.args, r.published())
	return nil
}
