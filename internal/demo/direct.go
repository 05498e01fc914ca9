package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"

	"golang.org/x/net/proxy"

	"waterproxy/integration/tornet"
)

type directOptions struct {
	transport      string
	client, server []string // command lines
	folder         *folder
	orPort         string // where the server's end delivers connections
	show           *display
}

// direct is the stack without tor: this process asks the client's end for
// connections as tor would and receives them from the server's end.
type direct struct {
	client, server *managedProxy
	socks          listener // the client's end
	bridge         listener // the server's end
	fetcher        *http.Client
}

func startDirect(ctx context.Context, o directOptions) (stack, error) {
	d := &direct{}
	if err := d.start(ctx, o); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *direct) start(ctx context.Context, o directOptions) error {
	var err error
	report := o.show.stage(stageServer)
	report(0)
	d.server, err = launch(o.server, serverVariables(o), filepath.Join(o.folder.path, "server"), serverMethod, o.transport)
	if err != nil {
		return err
	}
	if d.bridge, err = d.server.ready(ctx); err != nil {
		return err
	}
	report(100)
	report = o.show.stage(stageClient)
	report(0)
	d.client, err = launch(o.client, clientVariables(o), filepath.Join(o.folder.path, "client"), clientMethod, o.transport)
	if err != nil {
		return err
	}
	if d.socks, err = d.client.ready(ctx); err != nil {
		return err
	}
	report(100)
	d.fetcher, err = bridgeClient(d.socks.address, d.bridge)
	return err
}

// serverVariables are those that tor sets for a server's transport, besides
// those that it sets for any.
func serverVariables(o directOptions) []string {
	return []string{
		"TOR_PT_SERVER_TRANSPORTS=" + o.transport,
		"TOR_PT_SERVER_BINDADDR=" + o.transport + "-127.0.0.1:0",
		"TOR_PT_ORPORT=" + o.orPort,
		// tor sets this one to nothing if it has no Extended ORPort.
		"TOR_PT_EXTENDED_SERVER_PORT=",
	}
}

func clientVariables(o directOptions) []string {
	return []string{"TOR_PT_CLIENT_TRANSPORTS=" + o.transport}
}

// bridgeClient returns an HTTP client that asks the client's end, at socks, for
// a connection to the bridge, whatever the URL: behind the bridge there is only
// one server.
func bridgeClient(socks string, bridge listener) (*http.Client, error) {
	auth, err := bridge.args.credentials()
	if err != nil {
		return nil, err
	}
	dialer, err := proxy.SOCKS5("tcp", socks, auth, proxy.Direct)
	if err != nil {
		return nil, err
	}
	contextDialer, ok := dialer.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("the SOCKS5 dialer takes no context")
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return contextDialer.DialContext(ctx, network, bridge.address)
		},
	}}, nil
}

func (d *direct) http() *http.Client { return d.fetcher }

func (d *direct) usage() string {
	usage := fmt.Sprintf("The client's SOCKS proxy: %s; the bridge to ask it for: %s", d.socks.address, d.bridge.address)
	if args := d.bridge.args.socks(); args != "" {
		usage += " with the user name " + args
	}
	return usage
}

func (d *direct) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		// It ends at the latest when the stack is closed.
		select {
		case <-d.client.exited:
		case <-d.server.exited:
		}
		close(ended)
	}()
	return ended
}

func (d *direct) explain(err error) error {
	return fmt.Errorf("%w\nthe server's end said:\n%s\nthe client's end said:\n%s", err, d.server.said(), d.client.said())
}

func (d *direct) close() error {
	if d.fetcher != nil {
		d.fetcher.CloseIdleConnections()
	}
	var errs []error
	for _, p := range []*managedProxy{d.client, d.server} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(errs...)
}

// commonVariables are those that tor sets for any transport.
func commonVariables(state string) []string {
	return append(tornet.CleanEnvironment(),
		"TOR_PT_MANAGED_TRANSPORT_VER=1",
		"TOR_PT_STATE_LOCATION="+state,
		"TOR_PT_EXIT_ON_STDIN_CLOSE=1",
	)
}
