package transport

import (
	"context"
	"net"
	"sync"
)

// ReloadableDialer is a [Dialer] whose configuration, module included, can be
// replaced while connections are up.
type ReloadableDialer struct {
	*ledger
	mu      sync.Mutex
	current *dialVersion
	closed  bool
}

var _ Dialer = (*ReloadableDialer)(nil)

// dialVersion is one version of what a ReloadableDialer dials with.
type dialVersion struct {
	Dialer
	inUse
}

// inUse counts the set-ups that use one version of a configuration, and keeps its
// module for them.
type inUse struct {
	settingUp sync.WaitGroup
	release   func() // of the module
}

func newInUse(cfg Config) inUse { return inUse{release: cfg.Module.m.Retain()} }

// retire ends a version that is not the current one any more, once its last set-up
// is over.
func (u *inUse) retire(end func() error) {
	go func() {
		u.settingUp.Wait()
		_ = end() // of an instance without connections; a dialer has no error
		u.release()
	}()
}

// NewReloadableDialer is NewDialer for a dialer that can be reloaded.
func NewReloadableDialer(cfg Config) (*ReloadableDialer, error) {
	d := &ReloadableDialer{ledger: newLedger()}
	v, err := d.version(cfg)
	if err != nil {
		return nil, err
	}
	d.current = v
	return d, nil
}

func (d *ReloadableDialer) version(cfg Config) (*dialVersion, error) {
	inner, err := dialerFor(cfg, d.ledger)
	if err != nil {
		return nil, err
	}
	return &dialVersion{inner, newInUse(cfg)}, nil
}

// use returns the current version, which is kept until done is called.
func (d *ReloadableDialer) use() (v *dialVersion, done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v = d.current
	v.settingUp.Add(1)
	return v, v.settingUp.Done
}

// Reload dials new connections with another configuration, if its module starts
// with it; ctx bounds that. Otherwise nothing changes. Connections that are up, or
// being set up, go on with the old one. Its module may be closed when Reload has
// returned.
func (d *ReloadableDialer) Reload(ctx context.Context, cfg Config) error {
	v, err := d.version(cfg)
	if err != nil {
		return err
	}
	if err := v.Start(ctx); err != nil {
		v.retire(v.Close)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		v.retire(v.Close)
		return &Error{"reload", ErrConfig, net.ErrClosed}
	}
	old := d.current
	d.current = v
	old.retire(old.Close)
	return nil
}

// Start implements [Dialer].
func (d *ReloadableDialer) Start(ctx context.Context) error {
	v, done := d.use()
	defer done()
	return v.Start(ctx)
}

// Dial implements [Dialer].
func (d *ReloadableDialer) Dial(ctx context.Context, network, address string, args Args) (Conn, error) {
	v, done := d.use()
	defer done()
	return v.Dial(ctx, network, address, args)
}

// Close implements [Dialer].
func (d *ReloadableDialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.current.release()
	return d.current.Close()
}
