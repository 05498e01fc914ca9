package transport

import (
	"context"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/guest"
)

// RuntimeDialer dials connections that share module instances: one, or a few
// where one processor is not enough (see Config.Instances). The first one is
// started by Start, or with the first dial. If an instance fails, its
// connections end with its error, and a later dial starts a new one, after a
// backoff of 100 ms that doubles up to 30 s with each failure in a row. It is
// safe for concurrent use.
type RuntimeDialer struct {
	cfg  Config
	pool *pool
}

var _ Dialer = (*RuntimeDialer)(nil)

// NewRuntimeDialer checks the configuration. It returns an [ErrConfig], or an
// [ErrRole] if no instance of the module can carry many connections as a client.
func NewRuntimeDialer(cfg Config) (*RuntimeDialer, error) {
	return newRuntimeDialer(cfg, newLedger())
}

func newRuntimeDialer(cfg Config, l *ledger) (*RuntimeDialer, error) {
	cfg, err := cfg.prepare(cfg.Module.checkMany, RoleClient, RoleFixedClient)
	if err != nil {
		return nil, err
	}
	if cfg.Instances == InstancePerConn {
		cfg.Instances = 1
	}
	role, err := cfg.Module.clientRole(true)
	if err != nil {
		return nil, err
	}
	d := &RuntimeDialer{cfg: cfg}
	d.pool = newPool(&d.cfg, role, l)
	return d, nil
}

// Start implements [Dialer]: it starts an instance if there is none.
func (d *RuntimeDialer) Start(ctx context.Context) error {
	_, err := d.pool.first(ctx)
	return err
}

// DialContext connects to an address (those of net.Dial) through the module. ctx
// bounds that, and has no effect on the connection afterwards. A connection that
// fails, or whose set-up does, concerns no other.
func (d *RuntimeDialer) DialContext(ctx context.Context, network, address string) (*RuntimeDialerConn, error) {
	return d.dial(ctx, network, address, nil)
}

// Dial implements [Dialer]; it returns a [RuntimeDialerConn].
func (d *RuntimeDialer) Dial(ctx context.Context, network, address string, args Args) (Conn, error) {
	c, err := d.dial(ctx, network, address, args)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (d *RuntimeDialer) dial(ctx context.Context, net, address string, args Args) (*RuntimeDialerConn, error) {
	if d.pool.role == RoleFixedClient {
		net, address = "", ""
	}
	n := &network{cfg: &d.cfg, network: net, address: address, args: args}
	o := guest.ConnOptions{Target: records.Target(net, address), Args: args.String()}
	s, err := d.pool.open(ctx, n, o, func(ctx context.Context, c *guest.Conn) error { return c.Open(ctx) }, nil)
	if err != nil {
		d.pool.ledger.refuse()
		return nil, err
	}
	return &RuntimeDialerConn{conn{s}}, nil
}

// Close implements [Dialer]. Connections that are up live on; an instance ends
// with the last of its connections.
func (d *RuntimeDialer) Close() error {
	d.pool.close()
	return nil
}

// Stats implements [Dialer].
func (d *RuntimeDialer) Stats() Stats { return d.pool.ledger.stats() }
