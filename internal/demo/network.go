package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"waterproxy/internal/display"
	"waterproxy/internal/tornet"
)

type networkOptions struct {
	transport      string
	client, server []string // the plugins' command lines
	dir            string
	show           *display.Display
}

// network is the stack with tor.
type network struct {
	core   *tornet.Core
	bridge *tornet.Bridge
	client *tornet.Client

	transport string
}

func startNetwork(ctx context.Context, o networkOptions) (stack, error) {
	core, err := tornet.StartCore(ctx, o.dir, tornet.CoreOptions{Progress: o.show.Progress})
	var missing *tornet.MissingProgramError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%w; without tor, --no-tor shows the same two processes", missing)
	}
	if err != nil {
		return nil, err
	}
	n := &network{core: core, transport: o.transport}
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
		Progress:  o.show.Progress,
	})
	if err != nil {
		return err
	}
	n.client, err = n.core.StartClient(ctx, tornet.ClientOptions{
		Plugins:     []tornet.Plugin{{Transports: transports, Exec: o.client}},
		BridgeLines: n.bridge.Lines(),
		Progress:    o.show.Progress,
	})
	return err
}

func (n *network) http() *http.Client { return n.client.HTTP() }

// transportLog has what tor hears from the transports that it launches.
const transportLog = "pt.log"

func (n *network) replaced(ctx context.Context, sum string) error {
	for _, node := range []*tornet.Node{n.bridge.Node, n.client.Node} {
		if _, err := node.WaitLog(ctx, transportLog, usesNew(sum)); err != nil {
			return err
		}
	}
	return nil
}

// anew starts a second tor, which uses the transport process of the first: tor keeps its
// connection to a bridge, and so never asks for another one.
func (n *network) anew(ctx context.Context, progress func(int)) (*http.Client, error) {
	listens := regexp.MustCompile("CMETHOD " + regexp.QuoteMeta(n.transport) + ` socks5 ([0-9.:]+)`)
	match, err := n.client.WaitLog(ctx, transportLog, listens)
	if err != nil {
		return nil, err
	}
	second, err := n.core.StartClient(ctx, tornet.ClientOptions{
		BridgeLines: n.bridge.Lines(),
		Torrc:       []string{"ClientTransportPlugin " + n.transport + " socks5 " + match[1]},
		Progress:    func(_ string, percent int) { progress(percent) },
	})
	if err != nil {
		return nil, err
	}
	return second.HTTP(), nil
}

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
