package main

import (
	"context"
	"errors"
	"reflect"
	"runtime/debug"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/ptlog"
	"waterproxy/server"
	"waterproxy/transport"
)

// startProxy starts a client's transport. One that has started before is loaded with
// its first connection.
func (m *managed) startProxy(ctx context.Context, name string) (*client.Proxy, error) {
	dialer := client.NewLazy(func(ctx context.Context) (transport.Dialer, error) {
		cfg, err := m.load(name)
		if err != nil {
			return nil, err
		}
		d, err := client.NewDialer(ctx, name, cfg, m.log)
		if err != nil {
			return nil, errors.Join(err, cfg.Module.Close())
		}
		m.started(name, transport.RoleClient, nil, nil)
		return d, nil
	})
	if _, ok := m.catalog.Started(name, transport.RoleClient, nil); !ok {
		if err := dialer.Start(ctx); err != nil {
			return nil, errors.Join(err, dialer.Close())
		}
	}
	p, err := client.Serve(ctx, name, reporting{dialer, name}, transport.DefaultSetupTimeout, m.log, m.meter)
	if err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	return p, nil
}

// reporting is a dialer whose connections tor's controllers hear of.
type reporting struct {
	transport.Dialer
	name string
}

func (r reporting) Dial(ctx context.Context, network, address string, args transport.Args) (transport.Conn, error) {
	c, err := r.Dialer.Dial(ctx, network, address, args)
	ptlog.ReportConnect(r.name, transport.Scrub(err))
	return c, err
}

// startListener starts a server's transport. One that has started before is loaded
// when its first client comes.
func (m *managed) startListener(ctx context.Context, bind pt.Bindaddr, info *pt.ServerInfo) (*server.Listener, error) {
	name, args := bind.MethodName, transport.Args(bind.Options)
	load := func() (transport.Config, error) {
		cfg, err := m.load(name)
		cfg.Args = args
		return cfg, err
	}
	if published, ok := m.catalog.Started(name, transport.RoleServer, args); ok {
		loaded := func(now transport.Args, err error) {
			switch {
			case err != nil:
				m.log.Error("a module that started before does not any more", "transport", name, "error", transport.Scrub(err))
			case !reflect.DeepEqual(now, published):
				m.log.Error("the module wants other arguments of its clients than tor has been told; tor learns them at the next start", "transport", name)
				fallthrough
			default:
				m.started(name, transport.RoleServer, args, now)
			}
		}
		return server.ListenLazily(ctx, name, load, published, loaded, bind.Addr, m.orPort(info), m.log, m.meter)
	}
	cfg, err := load()
	if err != nil {
		return nil, err
	}
	l, err := server.Listen(ctx, name, cfg, bind.Addr, m.orPort(info), m.log, m.meter)
	if err != nil {
		return nil, errors.Join(err, cfg.Module.Close())
	}
	m.started(name, transport.RoleServer, args, transport.Args(l.Args()))
	return l, nil
}

// started does what is to be done when a module has been loaded.
func (m *managed) started(name string, role transport.Role, args, published transport.Args) {
	if err := m.catalog.Remember(name, role, args, published); err != nil {
		m.log.Warn("the module will be loaded at the next start, needed or not", "transport", name, "error", err)
	}
	// Decoding a module leaves several times its size behind.
	go debug.FreeOSMemory()
}
