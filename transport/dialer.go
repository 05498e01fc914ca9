package transport

import "context"

// RuntimeConnDialer dials connections that are each carried by a module instance
// of their own. It holds no instance and is safe for concurrent use.
type RuntimeConnDialer struct{ cfg Config }

// NewRuntimeConnDialer checks the configuration. It returns an [ErrConfig], or
// an [ErrRole] if the module can be no kind of client.
func NewRuntimeConnDialer(cfg Config) (*RuntimeConnDialer, error) {
	cfg, err := cfg.prepare(RoleClient, RoleFixedClient)
	if err != nil {
		return nil, err
	}
	return &RuntimeConnDialer{cfg}, nil
}

// DialContext starts an instance, which dials the address and does its
// transport's handshake. ctx bounds that, and has no effect on the connection
// afterwards. network and address are those of net.Dial.
func (d *RuntimeConnDialer) DialContext(ctx context.Context, network, address string) (*RuntimeConn, error) {
	return d.dial(ctx, RoleClient, network, address)
}

// DialFixedContext is DialContext for a module that knows by itself what to
// dial (RoleFixedClient). Config.Allow says what it may dial.
func (d *RuntimeConnDialer) DialFixedContext(ctx context.Context) (*RuntimeConn, error) {
	return d.dial(ctx, RoleFixedClient, "", "")
}

func (d *RuntimeConnDialer) dial(ctx context.Context, r Role, net, address string) (*RuntimeConn, error) {
	s, err := start(ctx, &d.cfg, r, &network{cfg: &d.cfg, network: net, address: address})
	if err != nil {
		return nil, err
	}
	return &RuntimeConn{s}, nil
}
