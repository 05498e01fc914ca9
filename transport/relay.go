package transport

import (
	"context"
	"net"
	"sync"
)

// Relay joins connections that it accepts to ones that it dials, each pair
// through a module instance in the relay role.
type Relay struct {
	cfg     Config
	network string
	address string
	a       *acceptor

	mu   sync.Mutex
	live map[*session]struct{}
}

// NewRelay starts to relay connections from inner, which belongs to the Relay
// from now on, to an address (those of net.Dial). If address is empty the module
// has to know one; see Config.Allow. One connection's failure is logged and
// concerns no other.
func NewRelay(cfg Config, inner net.Listener, network, address string) (*Relay, error) {
	cfg, err := cfg.prepare(RoleRelay)
	if err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg, network: network, address: address, live: map[*session]struct{}{}}
	r.a = accept(inner, cfg.Logger, r.carry)
	return r, nil
}

// carry relays one connection, from its set-up to its end.
func (r *Relay) carry(ctx context.Context, conn net.Conn, ready func()) {
	n := &network{cfg: &r.cfg, network: r.network, address: r.address, inbound: conn}
	s, err := start(ctx, &r.cfg, RoleRelay, n)
	ready()
	if err != nil {
		logRefused(ctx, &r.cfg, err)
		return
	}
	r.mu.Lock()
	r.live[s] = struct{}{}
	r.mu.Unlock()
	<-s.done
	r.mu.Lock()
	delete(r.live, s)
	r.mu.Unlock()
}

// Addr returns the inner listener's address.
func (r *Relay) Addr() net.Addr { return r.a.inner.Addr() }

// Connections returns the number of connections that are being relayed.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

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
// are up live on until they end by themselves, or until Abort.
func (r *Relay) Close() error { return r.a.stop(net.ErrClosed) }

// Abort is Close, and ends all connections at once; what is in flight is lost.
func (r *Relay) Abort() error {
	err := r.Close()
	r.mu.Lock()
	for s := range r.live {
		s.kill()
	}
	r.mu.Unlock()
	r.a.running.Wait()
	return err
}
