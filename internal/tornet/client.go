package tornet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/net/proxy"
)

// ClientOptions say how a [Client] is started.
type ClientOptions struct {
	// Plugins become the ClientTransportPlugin lines.
	Plugins []Plugin
	// BridgeLines are the lines of the bridges to use: see [Bridge.Lines].
	BridgeLines []string
	// Torrc holds further lines.
	Torrc []string
	// Logs are further logs: severity, with domains if wanted, by file name;
	// for example "pt.log": "[pt]info".
	Logs map[string]string
	// Progress gets reports of the start; nil is allowed.
	Progress Progress
}

// Client is a tor client that reaches the network through bridges.
type Client struct {
	*Node
	socks string
	http  *http.Client
}

// StartClient starts a client and waits until it has bootstrapped to 100%,
// which takes 3 to 4 seconds.
func (c *Core) StartClient(ctx context.Context, o ClientOptions) (*Client, error) {
	var client *Client
	err := withFreshPorts(func() error {
		node, err := c.add("client", o.Logs)
		if err != nil {
			return err
		}
		client = &Client{Node: node}
		if err := client.start(ctx, c.dirAuthority, o); err != nil {
			return errors.Join(err, c.discard(node))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("starting a client: %w", err)
	}
	return client, nil
}

func (c *Client) start(ctx context.Context, dirAuthority string, o ClientOptions) error {
	if len(o.BridgeLines) == 0 {
		return errors.New("a client needs a bridge line")
	}
	port, err := FreePort()
	if err != nil {
		return err
	}
	c.socks = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if c.http, err = SOCKSClient(c.socks); err != nil {
		return err
	}
	plugins, err := pluginLines("ClientTransportPlugin", o.Plugins)
	if err != nil {
		return err
	}
	lines := append(c.commonLines(dirAuthority), "SocksPort "+c.socks, "UseBridges 1")
	lines = append(lines, o.BridgeLines...)
	lines = append(lines, plugins...)
	if err := c.writeTorrc(append(lines, o.Torrc...)); err != nil {
		return err
	}
	report := o.Progress.stage(StageClient)
	report(0)
	c.ready = func(ctx context.Context) error { return c.waitBootstrapped(ctx, 100, report) }
	return c.Node.start(ctx)
}

// SOCKSAddr returns where tor's SOCKS proxy listens.
func (c *Client) SOCKSAddr() string { return c.socks }

// HTTP returns an HTTP client whose connections all go through tor.
func (c *Client) HTTP() *http.Client { return c.http }

// Close stops the client.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.Node.Close()
}

// SOCKSClient returns an HTTP client whose connections all go through the SOCKS5
// proxy at address.
func SOCKSClient(address string) (*http.Client, error) {
	dialer, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
	if err != nil {
		return nil, err
	}
	contextDialer, ok := dialer.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("the SOCKS5 dialer takes no context")
	}
	// No Proxy function: the environment has no say in this.
	return &http.Client{Transport: &http.Transport{DialContext: contextDialer.DialContext}}, nil
}
