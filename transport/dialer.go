package transport

import (
	"context"

	"waterproxy/internal/ptargs"
)

// Args are the arguments of a connection (in a bridge line) or of a server
// (ServerTransportOptions, SMETHOD ARGS), as in pt-spec 3.5 and 3.3.3. A name can
// have several values.
type Args map[string][]string

func (a Args) String() string { return ptargs.Format(a) }

// Dialer dials connections that modules carry. It is safe for concurrent use.
type Dialer interface {
	// Start finds out whether the module starts with this configuration, before
	// anything is dialed. ctx bounds it.
	Start(ctx context.Context) error
	// Dial connects to an address (those of net.Dial), or, if address is empty,
	// to what the module chooses within [Config.Allow]. A module that is a
	// fixed client and no client always chooses itself: it ignores the address. The
	// arguments are for the module. ctx bounds the set-up, and has no effect on the
	// connection afterwards.
	Dial(ctx context.Context, network, address string, args Args) (Conn, error)
	// Close ends dialing; it may be called twice. Connections that are up live on.
	Close() error
	// Stats returns the dialer's figures. They go on after Close.
	Stats() Stats
}

// NewDialer returns a [RuntimeDialer] if the module can carry many connections
// in one instance and Config.Instances does not forbid it, or else a
// [RuntimeConnDialer]. Errors are theirs.
func NewDialer(cfg Config) (Dialer, error) { return dialerFor(cfg, newLedger()) }

func dialerFor(cfg Config, l *ledger) (Dialer, error) {
	if cfg.carriesMany(RoleClient, RoleFixedClient) {
		return newRuntimeDialer(cfg, l)
	}
	return newRuntimeConnDialer(cfg, l)
}

// RuntimeConnDialer dials connections that are each carried by a module instance
// of their own. It holds no instance and is safe for concurrent use.
type RuntimeConnDialer struct {
	cfg    Config
	ledger *ledger
}

var _ Dialer = (*RuntimeConnDialer)(nil)

// NewRuntimeConnDialer checks the configuration. It returns an [ErrConfig], or
// an [ErrRole] if the module can be no kind of client.
func NewRuntimeConnDialer(cfg Config) (*RuntimeConnDialer, error) {
	return newRuntimeConnDialer(cfg, newLedger())
}

func newRuntimeConnDialer(cfg Config, l *ledger) (*RuntimeConnDialer, error) {
	cfg, err := cfg.prepare(cfg.Module.CheckRole, RoleClient, RoleFixedClient)
	if err != nil {
		return nil, err
	}
	return &RuntimeConnDialer{cfg, l}, nil
}

// DialContext starts an instance, which dials the address and does its
// transport's handshake. ctx bounds that, and has no effect on the connection
// afterwards. network and address are those of net.Dial.
func (d *RuntimeConnDialer) DialContext(ctx context.Context, network, address string) (*RuntimeConn, error) {
	return d.dial(ctx, RoleClient, network, address, nil)
}

// DialFixedContext is DialContext for a module that chooses what to
// dial (RoleFixedClient). Config.Allow lists what it may dial.
func (d *RuntimeConnDialer) DialFixedContext(ctx context.Context) (*RuntimeConn, error) {
	return d.dial(ctx, RoleFixedClient, "", "", nil)
}

// Dial implements [Dialer]; it returns a [RuntimeConn].
func (d *RuntimeConnDialer) Dial(ctx context.Context, network, address string, args Args) (Conn, error) {
	c, err := d.dial(ctx, d.roleFor(address), network, address, args)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// roleFor returns the role for an address, which may be empty.
func (d *RuntimeConnDialer) roleFor(address string) Role {
	if address == "" {
		return RoleFixedClient
	}
	role, _ := d.cfg.Module.clientRole(false) // it has one
	return role
}

func (d *RuntimeConnDialer) dial(ctx context.Context, r Role, net, address string, args Args) (*RuntimeConn, error) {
	if r == RoleFixedClient {
		net, address = "", ""
	}
	cfg := d.cfg
	cfg.Args = args
	s, err := start(ctx, &cfg, r, &network{cfg: &d.cfg, network: net, address: address, args: args}, d.ledger)
	if err != nil {
		d.ledger.refuse()
		return nil, err
	}
	return &RuntimeConn{conn{s}}, nil
}

// Start implements [Dialer] with [Probe].
func (d *RuntimeConnDialer) Start(ctx context.Context) error {
	role, err := d.cfg.Module.clientRole(false)
	if err != nil {
		return err
	}
	_, err = Probe(ctx, d.cfg, role)
	return err
}

// Close implements [Dialer]; there is nothing to close.
func (d *RuntimeConnDialer) Close() error { return nil }

// Stats implements [Dialer].
func (d *RuntimeConnDialer) Stats() Stats { return d.ledger.stats() }
