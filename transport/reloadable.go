package transport

import (
	"cmp"
	"context"
	"time"
)

// ReloadableDialer is a [Dialer] whose configuration, module included, can be
// replaced while connections are up.
type ReloadableDialer struct {
	ledger      *ledger
	generations *generations[*dialGeneration]
}

var _ Dialer = (*ReloadableDialer)(nil)

// dialGeneration is what a ReloadableDialer dials with for one configuration.
type dialGeneration struct {
	Dialer
	timeout time.Duration // of a set-up
}

func (g *dialGeneration) close() error { return g.Close() }

// NewReloadableDialer is NewDialer for a dialer that can be reloaded.
func NewReloadableDialer(cfg Config) (*ReloadableDialer, error) {
	d := NewLazyDialer(nil)
	g, err := d.generation(cfg)
	if err != nil {
		return nil, err
	}
	return d, d.generations.replace(g, cfg.Module)
}

// NewLazyDialer returns a dialer that has no configuration yet. Start, or the first
// Dial, calls first, which is to call Reload; whoever dials meanwhile waits for the same
// call. After an error, which is that of all who wait, the next one begins a second
// later at the earliest. The context of first ends with Close, which does not wait for it.
// With first nil, the caller of NewLazyDialer calls Reload; before that, dials fail.
func NewLazyDialer(first func(context.Context) error) *ReloadableDialer {
	return &ReloadableDialer{newLedger(), newGenerations[*dialGeneration](first)}
}

func (d *ReloadableDialer) generation(cfg Config) (*dialGeneration, error) {
	inner, err := dialerFor(cfg, d.ledger)
	if err != nil {
		return nil, err
	}
	return &dialGeneration{inner, cmp.Or(cfg.SetupTimeout, DefaultSetupTimeout)}, nil
}

// Reload dials new connections with another configuration, or with the first one, if
// its module starts with it; ctx bounds that. Otherwise nothing changes. Connections
// that are up, or being set up, go on with the old one. Its module may be closed when
// Reload has returned. After Close it returns an [ErrConfig] with net.ErrClosed.
func (d *ReloadableDialer) Reload(ctx context.Context, cfg Config) error {
	g, err := d.generation(cfg)
	if err != nil {
		return err
	}
	if err := g.Start(ctx); err != nil {
		_ = g.close() // an instance that has not started has nothing to lose
		return err
	}
	return d.generations.replace(g, cfg.Module)
}

// Start implements [Dialer].
func (d *ReloadableDialer) Start(ctx context.Context) error {
	g, done, err := d.generations.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	return g.Start(ctx)
}

// Dial implements [Dialer]. The configuration's SetupTimeout is a deadline of the dial:
// an error that it causes is a context.DeadlineExceeded.
func (d *ReloadableDialer) Dial(ctx context.Context, network, address string, args Args) (Conn, error) {
	g, done, err := d.generations.use(ctx)
	if err != nil {
		d.ledger.refuse()
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	return g.Dial(ctx, network, address, args)
}

// Close implements [Dialer].
func (d *ReloadableDialer) Close() error { return d.generations.close() }

// Stats implements [Dialer].
func (d *ReloadableDialer) Stats() Stats { return d.ledger.stats() }
