package transport

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// passthroughs have bytes on the wire as they are; one for each way in which the
// runtime treats modules.
var passthroughs = []string{"plain", "plain_v0", "plain_v1", "posix_v1", "plain" + inOne}

// TestNetConn has x/net's conformance tests of net.Conn run on connections through
// modules, with a plain TCP connection or another of them at the other end.
func TestNetConn(t *testing.T) {
	for _, name := range passthroughs {
		t.Run(name, func(t *testing.T) {
			cfg := quietConfig(t, name)
			for kind, l := range map[string]link{
				"client": clientLink(t, cfg),
				"server": serverLink(t, cfg),
				"pair":   pairLink(t, cfg, cfg),
			} {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						near, far, err := l(ctx)
						if err != nil {
							return nil, nil, nil, err
						}
						return near, far, func() {
							near.Abort()
							if c, ok := far.(Conn); ok {
								c.Abort()
							}
							far.Close()
						}, nil
					})
				})
			}
		})
	}
}
