// Package acceptloop accepts connections until a listener is closed.
package acceptloop

import (
	"context"
	"errors"
	"net"
	"time"
)

// The pause after a failure: each is twice the one before, up to the longest.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// Run gives each connection of a listener to handle, which must not block, until the
// listener is closed or ctx ends. A failure to accept passes (the process is out of
// descriptors, or a connection ended in the queue): it is reported to failed, with the
// pause until the next attempt. The error is that of the closed listener; nil if ctx has
// ended.
func Run(ctx context.Context, l net.Listener, handle func(net.Conn), failed func(err error, pause time.Duration)) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			handle(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
		pause = min(max(2*pause, firstPause), longestPause)
		failed(err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}
