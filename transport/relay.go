package transport

import (
	"context"
	"net"
)

// Relay joins connections that it accepts to ones that it dials, each pair
// through a module instance in the relay role.
type Relay struct {
	cfg     Config
	network string
	address string
	a       *acceptor
	ledger  *ledger
}

// NewRelay starts to relay connections from inner, which belongs to the Relay
// from now on, to an address (those of net.Dial). If address is empty the module
// has to know one; see Config.Allow. One connection's failure is logged and
// concerns no other.
func NewRelay(cfg Config, inner net.Listener, network, address string) (*Relay, error) {
	cfg, err := cfg.prepare(cfg.Module.CheckRole, RoleRelay)
	if err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg, network: network, address: address, ledger: newLedger()}
	r.a = accept(inner, cfg.Logger, func() int { return maxPending }, r.carry)
	return r, nil
}

// carry relays one connection, from its set-up to its end.
func (r *Relay) carry(ctx context.Context, conn net.Conn, ready func()) {
	n := &network{cfg: &r.cfg, network: r.network, address: r.address, inbound: conn}
	s, err := start(ctx, &r.cfg, RoleRelay, n, r.ledger)
	ready()
	if err != nil {
		r.ledger.refuse()
		logRefused(ctx, r.cfg.Logger, err)
		return
	}
	<-s.done
}

// Addr returns the inner listener's address.
func (r *Relay) Addr() net.Addr { return r.a.inner.Addr() }

// Stats returns the relay's figures. They go on after Close.
func (r *Relay) Stats() Stats { return r.ledger.stats() }

// Wait returns when the Relay has been closed, or its listener failed, and every
// connection has ended. The error is why, nil after Close.
func (r *Relay) Wait() error {
	r.a.running.Wait()
	if r.a.err == net.ErrClosed {
		return nil
	}
	return &Error{"accept", ErrNetwork, r.a.err}
}

// Close stops accepting and ends set-ups that are under way. Connections that
// are up live on until they end, or until Abort.
func (r *Relay) Close() error { return r.a.stop(net.ErrClosed) }

// Abort is Close, and ends all connections at once; what is in flight is lost.
func (r *Relay) Abort() error {
	err := r.Close()
	for _, s := range r.ledger.sessions() {
		s.abort()
	}
	r.a.running.Wait()
	return err
}
