package main

import (
	"fmt"
	"sync"

	tls "github.com/refraction-networking/utls"
)

// tickets are those that servers have sent, for the next connection to the same bridge, which
// then needs no certificate: the library keeps what it knows of the first one's, and of what
// it was checked against. A ticket is used once, as browsers do it, so that it does not tell
// an observer which connections belong together.
type tickets struct {
	mu   sync.Mutex
	kept map[string]*tls.ClientSessionState
}

// mostTickets is how many are kept. A client uses a few bridges.
const mostTickets = 64

// of returns those of a bridge that is asked for a name, which depend on all that makes a
// server the right one. The library does not log the secret of a TLS 1.2 session that is resumed:
// resumed gets it.
func (t *tickets) of(b *bridge, name string, resumed *[]byte) tls.ClientSessionCache {
	return ticketsOf{t, fmt.Sprintf("%s %s %q %x", b.dial, name, b.verify, b.pin), resumed}
}

// ticketsOf implements the library's cache. It ignores the library's own key.
type ticketsOf struct {
	*tickets
	key     string
	resumed *[]byte
}

// Get implements [tls.ClientSessionCache].
func (t ticketsOf) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.kept[t.key]
	delete(t.kept, t.key)
	if state != nil && state.Vers() == tls.VersionTLS12 {
		*t.resumed = state.MasterSecret()
	}
	return state, state != nil
}

// Put implements [tls.ClientSessionCache].
func (t ticketsOf) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil || len(t.kept) == mostTickets {
		t.kept = map[string]*tls.ClientSessionState{}
	}
	t.kept[t.key] = state
}
