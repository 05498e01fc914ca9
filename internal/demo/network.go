package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"waterproxy/internal/tornet"
)

type networkOptions struct {
	transport      string
	client, server []string // the plugins' command lines
	dir            string
	show           *display
}

// network is the stack with tor.
type network struct {
	core   *tornet.Core
	bridge *tornet.Bridge
	client *tornet.Client
}

func startNetwork(ctx context.Context, o networkOptions) (stack, error) {
	core, err := tornet.StartCore(ctx, o.dir, tornet.CoreOptions{Progress: o.show.progress})
	var missing *tornet.MissingProgramError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%w; without tor, --no-tor shows the same two processes", missing)
	}
	if err != nil {
		return nil, err
	}
	n := &network{core: core}
	if err := n.startEnds(ctx, o); err != nil {
		return nil, errors.Join(err, core.Close())
	}
	return n, nil
}

// startEnds starts the two tors that launch the transport.
func (n *network) startEnds(ctx context.Context, o networkOptions) error {
	var err error
	transports := []string{o.transport}
	n.bridge, err = n.core.StartBridge(ctx, tornet.BridgeOptions{
		Plugins:   []tornet.Plugin{{Transports: transports, Exec: o.server}},
		ExtORPort: true,
		Progress:  o.show.progress,
	})
	if err != nil {
		return err
	}
	n.client, err = n.core.StartClient(ctx, tornet.ClientOptions{
		Plugins:     []tornet.Plugin{{Transports: transports, Exec: o.client}},
		BridgeLines: n.bridge.Lines(),
		Progress:    o.show.progress,
	})
	return err
}

func (n *network) http() *http.Client { return n.client.HTTP() }

func (n *network) usage() string {
	return fmt.Sprintf("tor's SOCKS proxy: %s (its exit reaches this machine's loopback addresses)", n.client.SOCKSAddr())
}

func (n *network) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		// It ends at the latest when the stack is closed.
		select {
		case <-n.client.Done():
		case <-n.bridge.Done():
		}
		close(ended)
	}()
	return ended
}

// explain adds nothing: tor's errors carry the end of its log already, and those
// of the fetch are about what lies beyond it.
func (n *network) explain(err error) error { return err }

func (n *network) close() error { return n.core.Close() }
