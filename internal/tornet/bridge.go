package tornet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bridgeReady is the progress at which a bridge can serve: it has the directory
// of the network. More may never come in so small a network.
const bridgeReady = 75

// bridgeLinesFile is where tor writes the lines that its clients need.
const bridgeLinesFile = "bridgelines"

// BridgeOptions say how a [Bridge] is started.
type BridgeOptions struct {
	// Plugins become the ServerTransportPlugin lines; at least one is needed.
	Plugins []Plugin
	// TransportOptions become ServerTransportOptions lines: what stands
	// behind the transport's name, for example "iat-mode=1 foo=bar".
	TransportOptions map[string]string
	// ExtORPort makes tor offer the Extended ORPort, over which a transport
	// can tell it the client's address.
	ExtORPort bool
	// Torrc holds further lines.
	Torrc []string
	// Logs are further logs: severity, with domains if wanted, by file name;
	// for example "net.log": "[net]debug".
	Logs map[string]string
	// Progress gets reports of the start; nil is allowed.
	Progress Progress
}

// Bridge is a tor bridge that is reached through pluggable transports.
type Bridge struct {
	*Node
	addresses map[string]string // where each transport listens
	lines     []string
}

// StartBridge starts a bridge and waits until clients can use it, which takes 2
// to 4 seconds.
func (c *Core) StartBridge(ctx context.Context, o BridgeOptions) (*Bridge, error) {
	var bridge *Bridge
	err := withFreshPorts(func() error {
		node, err := c.add("bridge", o.Logs)
		if err != nil {
			return err
		}
		bridge = &Bridge{Node: node, addresses: make(map[string]string)}
		if err := bridge.start(ctx, c.dirAuthority, o); err != nil {
			return errors.Join(err, c.discard(node))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("starting a bridge: %w", err)
	}
	return bridge, nil
}

func (b *Bridge) start(ctx context.Context, dirAuthority string, o BridgeOptions) error {
	lines, err := b.torrc(dirAuthority, o)
	if err != nil {
		return err
	}
	if err := b.writeTorrc(lines); err != nil {
		return err
	}
	report := o.Progress.stage(StageBridge)
	report(0)
	b.ready = func(ctx context.Context) error {
		// The last percent is the transports' own readiness.
		err := b.waitBootstrapped(ctx, bridgeReady, func(percent int) { report(min(percent, 99)) })
		if err != nil {
			return err
		}
		return b.waitBridgeLines(ctx)
	}
	if err := b.Node.start(ctx); err != nil {
		return err
	}
	report(100)
	return nil
}

// torrc returns the lines of the bridge's torrc and draws its ports.
func (b *Bridge) torrc(dirAuthority string, o BridgeOptions) ([]string, error) {
	if len(o.Plugins) == 0 {
		return nil, errors.New("a bridge needs a plugin")
	}
	orPort, err := FreePort()
	if err != nil {
		return nil, err
	}
	lines := append(b.commonLines(dirAuthority), relayLines(orPort)...)
	lines = append(lines, "BridgeRelay 1", "PublishServerDescriptor 0", "DirPort 0", "ExitRelay 0")
	if o.ExtORPort {
		lines = append(lines, "ExtORPort auto")
	}
	plugins, err := pluginLines("ServerTransportPlugin", o.Plugins)
	if err != nil {
		return nil, err
	}
	lines = append(lines, plugins...)
	for _, plugin := range o.Plugins {
		for _, transport := range plugin.Transports {
			port, err := FreePort()
			if err != nil {
				return nil, err
			}
			// Without this line the transport would listen on every
			// address of the machine.
			b.addresses[transport] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			lines = append(lines, fmt.Sprintf("ServerTransportListenAddr %s %s", transport, b.addresses[transport]))
			if options := o.TransportOptions[transport]; options != "" {
				lines = append(lines, fmt.Sprintf("ServerTransportOptions %s %s", transport, options))
			}
		}
	}
	return append(lines, o.Torrc...), nil
}

// waitBridgeLines waits until tor has written a bridge line for each transport.
func (b *Bridge) waitBridgeLines(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		lines, err := b.readBridgeLines()
		if err != nil {
			return err
		}
		if len(lines) >= len(b.addresses) {
			b.mu.Lock()
			b.lines = lines
			b.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d bridge lines (there are %d): %w",
				len(b.addresses), len(lines), context.Cause(ctx))
		case <-b.Done():
			return errExited
		case <-tick.C:
		}
	}
}

func (b *Bridge) readBridgeLines() ([]string, error) {
	text, err := os.ReadFile(b.path(bridgeLinesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	scan := bufio.NewScanner(bytes.NewReader(text))
	for scan.Scan() {
		if line := strings.TrimSpace(scan.Text()); strings.HasPrefix(line, "Bridge ") {
			lines = append(lines, line)
		}
	}
	return lines, scan.Err()
}

// Lines returns the torrc lines with which a client uses the bridge, one for
// each transport, as the bridge's tor wrote them.
func (b *Bridge) Lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// Line returns the line of one transport.
func (b *Bridge) Line(transport string) (string, error) {
	for _, line := range b.Lines() {
		if strings.HasPrefix(line, "Bridge "+transport+" ") {
			return line, nil
		}
	}
	return "", fmt.Errorf("%s has no bridge line for the transport %q", b.name, transport)
}

// Address returns where one of the transports listens, empty if the bridge does
// not have it.
func (b *Bridge) Address(transport string) string { return b.addresses[transport] }

// Restart starts the bridge again after a Kill, or stops it first if it runs,
// and waits until clients can use it. Its ports and keys, and with them its
// lines, stay the same.
func (b *Bridge) Restart(ctx context.Context) error {
	if err := b.stop(syscall.SIGTERM); err != nil {
		return err
	}
	// What the last run wrote must not pass for what this one does.
	if err := os.Remove(b.path(bridgeLinesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.Node.start(ctx)
}
