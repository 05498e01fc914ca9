package transport

import (
	"errors"
	"testing"
	"time"
)

// TestEngines: wazero's compiler and its interpreter run every working module to
// the same effect. One checks the other; the interpreter is slow, so it gets
// little to do.
func TestEngines(t *testing.T) {
	for _, name := range working(t) {
		t.Run(name, func(t *testing.T) {
			cfg := quietConfig(t, name)
			cfg.Module = compile(t, name, true)
			compiled := quietConfig(t, name)
			if !offers(cfg, RoleClient) {
				compareServers(t, cfg)
				return
			}
			l := clientLink(t, cfg)
			if transforms(name) {
				l = pairLink(t, cfg, compiled) // one engine undoes what the other did
			}
			compare(t, l)
		})
	}
}

func compareServers(t *testing.T, cfg Config) {
	switch {
	case offers(cfg, RoleServer):
		compare(t, serverLink(t, cfg))
	case cfg.Module.CheckRole(RoleRelay) == nil:
		near, far, err := relayLink(t, cfg)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer abort(near)
		defer abort(far)
		bothWays(t, near, far)
	}
}

func compare(t *testing.T, l link) {
	t.Helper()
	near, far := l.connect(t)
	bothWays(t, near, far)
	// Stopping an instance of the interpreter while it runs is a data race: its
	// code is Go.
	within(t, "ending", func() {
		<-near.Done()
		if c, ok := far.(Conn); ok {
			<-c.Done()
		}
	})
}

func bothWays(t *testing.T, near, far duplex) {
	t.Helper()
	const size = 50_000
	near.SetDeadline(time.Now().Add(patience))
	far.SetDeadline(time.Now().Add(patience))
	up, down := pattern(11), pattern(12)
	err := together(func() error {
		_, err := up.write(near, size, always(7001))
		return errors.Join(err, near.CloseWrite())
	}, func() error {
		_, err := down.write(far, size, always(5003))
		return errors.Join(err, far.CloseWrite())
	}, func() error {
		n, err := up.check(far, -1, always(6007))
		return complete(n, size, err)
	}, func() error {
		n, err := down.check(near, -1, always(4001))
		return complete(n, size, err)
	})
	if err != nil {
		t.Error(err)
	}
	_ = far.Close()
	_ = near.Close()
}
