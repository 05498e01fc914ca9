package transport

import "context"

// RuntimeConnDialer dials connections that are each carried by a module instance
// of their own. It holds no instance and is safe for concurrent use.
type RuntimeConnDialer struct{ cfg Config }

// NewRuntimeConnDialer checks the configuration. It returns an [ErrConfig], or
// an [ErrRole] if the module can't be a client.
func NewRuntimeConnDialer(cfg Config) (*RuntimeConnDialer, error) {
	cfg, err := cfg.prepare(RoleClient)
	if err != nil {
		return nil, err
	}
	return &RuntimeConnDialer{cfg}, nil
}

// DialContext starts an instance, which dials the address and does its
// transport's handshake. ctx bounds that, and has no effect on the connection
// afterwards. network and address are those of net.Dial.
func (d *RuntimeConnDialer) DialContext(ctx context.Context, network, address string) (*RuntimeConn, error) {
	return dial(ctx, &d.cfg, network, address)
}

func dial(ctx context.Context, cfg *Config, net, address string) (*RuntimeConn, error) {
	s, err := start(ctx, cfg, RoleClient, &network{cfg: cfg, network: net, address: address})
	if err != nil {
		return nil, err
	}
	return &RuntimeConn{s}, nil
}
