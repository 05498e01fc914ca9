package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"waterproxy/internal/measure"
	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/webfront"
	"waterproxy/transport"
)

// contestant is a way for a connection to reach the origin.
type contestant struct {
	name  string
	about string // how it is run
	// start brings it up in a state directory. The path of the session lacks
	// the origin; run adds it.
	start func(ctx context.Context, l launch) (*session, error)
	// processes is false where there is nothing to start.
	processes bool
	// exitsOnStdin is true where closing standard input ends the processes, and
	// the time that takes is a measure.
	exitsOnStdin bool
}

// launch is what a contestant needs to start.
type launch struct {
	origin  string // address
	state   string // directory
	timeout time.Duration
	echo    io.Writer // gets what the processes write, if not nil
	// front returns the front that all contestants of a run have, which it starts first.
	front func(ctx context.Context) (*front, error)
}

// session is a contestant that is up.
type session struct {
	dial           func(ctx context.Context) (net.Conn, error)
	client, server *process
	keepsOpen      bool // see measure.Path
	// startup is how long each took to be ready.
	clientStartup, serverStartup time.Duration
}

// path makes the session measurable.
func (s *session) path(o *measure.Origin, timeout time.Duration) *measure.Path {
	p := &measure.Path{Dial: s.dial, Origin: o, Timeout: timeout, KeepsOpen: s.keepsOpen}
	if s.client != nil {
		p.Client = s.client.account()
	}
	if s.server != nil {
		p.Server = s.server.account()
	}
	return p
}

// running reports a process that has ended by itself.
func (s *session) running() error {
	var errs []error
	for _, p := range []*process{s.client, s.server} {
		if p != nil {
			errs = append(errs, p.running())
		}
	}
	return errors.Join(errs...)
}

// stop ends the processes, the client before the server that it uses, and returns
// how long each took.
func (s *session) stop() (client, server time.Duration, err error) {
	var clientErr, serverErr error
	if s.client != nil {
		client, clientErr = s.client.stop()
	}
	if s.server != nil {
		server, serverErr = s.server.stop()
	}
	return client, server, errors.Join(clientErr, serverErr)
}

// preset builds a contestant from its name.
func preset(name, exe string) (*contestant, error) {
	kind, variant, _ := strings.Cut(name, ":")
	switch kind {
	case "tcp":
		return directTCP(), nil
	case "relay":
		return relayChain("relay", 2), nil
	case "relay1":
		return relayChain("relay1", 1), nil
	case "obfs4proxy":
		return managedPair(pairSpec{
			name: name, client: "obfs4proxy", server: "obfs4proxy", transport: orElse(variant, "obfs4"),
		})
	case "lyrebird": // make peers
		const path = "integration/peers/built/lyrebird"
		return managedPair(pairSpec{name: name, client: path, server: path, transport: orElse(variant, "obfs4"), keepsOpen: true})
	case "webtunnel": // make peers
		return managedPair(pairSpec{
			name: name, client: "integration/peers/built/lyrebird", server: "integration/peers/built/webtunnel-server",
			transport: kind, fronted: true, clientArgs: webtunnelArgs(variant), keepsOpen: true,
		})
	case "waterproxy":
		return waterproxyPair(name, variant, exe)
	case "shadowsocks":
		method := orElse(variant, "chacha20-ietf-poly1305")
		return socksPair(name,
			"ss-local -s 127.0.0.1 -p {serverport} -b 127.0.0.1 -l {clientport} -k benchmark -m "+method,
			"ss-server -s 127.0.0.1 -p {serverport} -k benchmark -m "+method)
	}
	return nil, fmt.Errorf("no contestant is called %q; there are tcp, relay, relay1, obfs4proxy, lyrebird, shadowsocks[:method], webtunnel[:FINGERPRINT], waterproxy:TRANSPORT[:INSTANCES] and those of -pt and -socks", name)
}

// waterproxyPair is this project's executable, as client and server. The variant
// is TRANSPORT, or TRANSPORT:INSTANCES for -module-instances TRANSPORT=INSTANCES.
func waterproxyPair(name, variant, exe string) (*contestant, error) {
	transport, instances, _ := strings.Cut(variant, ":")
	if transport == "" {
		return nil, errors.New("waterproxy: name the transport, as in waterproxy:plain")
	}
	command := exe
	if instances != "" {
		command += " -module-instances " + transport + "=" + instances
	}
	return managedPair(pairSpec{
		name: name, client: command, server: command, transport: transport, serverArgs: requiredArgs[transport],
		fronted: transport == "webtunnel",
	})
}

// webtunnelArgs are the arguments of a client that imitates a browser, by a name of uTLS.
func webtunnelArgs(fingerprint string) transport.Args {
	if fingerprint == "" {
		return nil
	}
	return transport.Args{"utls": {fingerprint}}
}

// requiredArgs are the server options without which a transport does not start.
var requiredArgs = map[string]transport.Args{"shadowsocks": {"password": {"benchmark"}}}

func orElse(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// directTCP is the floor: no proxy at all.
func directTCP() *contestant {
	return &contestant{
		name:  "tcp",
		about: "a TCP connection, nothing in between",
		start: func(_ context.Context, l launch) (*session, error) {
			return &session{dial: tcpDialer(l.origin)}, nil
		},
	}
}

func tcpDialer(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// relayChain is one or two processes that copy bytes in Go and do nothing else.
func relayChain(name string, hops int) *contestant {
	processes := "one process"
	if hops == 2 {
		processes = "two processes in a row"
	}
	return &contestant{
		name:         name,
		about:        fmt.Sprintf("%s copying in Go, through user space, with buffers of %d KiB", processes, hopBuffer>>10),
		processes:    true,
		exitsOnStdin: true,
		start: func(ctx context.Context, l launch) (*session, error) {
			s, next := &session{}, l.origin
			var err error
			if hops == 2 {
				if s.server, next, s.serverStartup, err = launchHop(ctx, next, l.timeout, l.echo); err != nil {
					return nil, err
				}
			}
			if s.client, next, s.clientStartup, err = launchHop(ctx, next, l.timeout, l.echo); err != nil {
				_, _, stopErr := s.stop()
				return nil, errors.Join(err, stopErr)
			}
			s.dial = tcpDialer(next)
			return s, nil
		},
	}
}

// pairSpec is a pair of managed pluggable transports.
type pairSpec struct {
	name, client, server, transport string
	clientArgs, serverArgs          transport.Args
	keepsOpen                       bool // see measure.Path
	// fronted is true where the client is given an https url: the server is behind the front.
	fronted bool
}

// parsePair reads "name=client|server|transport|client-args|server-args"; the
// last two may be left out.
func parsePair(spec string) (pairSpec, error) {
	name, rest, ok := strings.Cut(spec, "=")
	fields := strings.Split(rest, "|")
	if !ok || name == "" || len(fields) < 3 || len(fields) > 5 {
		return pairSpec{}, fmt.Errorf("%q is not name=client-command|server-command|transport[|client-args[|server-args]]", spec)
	}
	p := pairSpec{name: name, client: fields[0], server: fields[1], transport: fields[2]}
	for i, dst := range []*transport.Args{&p.clientArgs, &p.serverArgs} {
		if len(fields) <= 3+i {
			break
		}
		args, err := ptargs.Parse(fields[3+i])
		if err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
		*dst = args
	}
	return p, nil
}

// managedPair is a client and a server that are launched as tor launches them.
func managedPair(spec pairSpec) (*contestant, error) {
	client, server := splitCommand(spec.client), splitCommand(spec.server)
	if len(client) == 0 || len(server) == 0 || spec.transport == "" {
		return nil, fmt.Errorf("%s: client command, server command and transport are all needed", spec.name)
	}
	about := fmt.Sprintf("PT client `%s`, server `%s`, transport %s", spec.client, spec.server, spec.transport)
	if len(spec.clientArgs)+len(spec.serverArgs) > 0 {
		about += fmt.Sprintf(", client arguments `%s`, server options `%s`", spec.clientArgs, spec.serverArgs)
	}
	about += fingerprint(client[0])
	return &contestant{
		name:         spec.name,
		about:        about,
		processes:    true,
		exitsOnStdin: true,
		start: func(ctx context.Context, l launch) (*session, error) {
			config := ptConfig{transport: spec.transport, timeout: l.timeout, echo: l.echo}
			behind, err := spec.behind(ctx, l)
			if err != nil {
				return nil, err
			}
			config.command = server
			config.variables = ptproc.Server(filepath.Join(l.state, "server"), l.origin, spec.transport).
				With(behind.variables).WithOptions(spec.transport, merged(spec.serverArgs, behind.serverArgs))
			sv, err := launchPT(ctx, config)
			if err != nil {
				return nil, fmt.Errorf("server: %w", err)
			}
			config.command = client
			config.variables = ptproc.Client(filepath.Join(l.state, "client"), spec.transport)
			cl, err := launchPT(ctx, config)
			if err != nil {
				_, stopErr := sv.stop()
				return nil, errors.Join(fmt.Errorf("client: %w", err), stopErr)
			}
			args := merged(sv.method.Args, behind.clientArgs, spec.clientArgs)
			return &session{
				dial: func(ctx context.Context) (net.Conn, error) {
					return ptproc.Dial(ctx, cl.method.Address, sv.method.Address, args)
				},
				client: cl.process, server: sv.process, keepsOpen: spec.keepsOpen,
				clientStartup: cl.startup, serverStartup: sv.startup,
			}, nil
		},
	}, nil
}

// behind is what a pair needs to know of the front that it is behind.
type behind struct {
	variables              ptproc.Variables // of the server
	serverArgs, clientArgs transport.Args
}

// behind returns what lets a pair use the front: nothing, if it does not.
func (p *pairSpec) behind(ctx context.Context, l launch) (behind, error) {
	if !p.fronted {
		return behind{}, nil
	}
	f, err := l.front(ctx)
	if err != nil {
		return behind{}, err
	}
	ports, err := freePorts(1) // the front has to know it
	if err != nil {
		return behind{}, err
	}
	return behind{
		variables:  ptproc.Variables{"TOR_PT_SERVER_BINDADDR": p.transport + "-127.0.0.1:" + ports[0]},
		serverArgs: transport.Args{"url": {"https://" + webfront.Name + "/" + ports[0]}},
		clientArgs: transport.Args{"addr": {f.address}, "cert": {f.pin}},
	}, nil
}

// merged returns arguments of which the later ones replace the earlier ones.
func merged(all ...map[string][]string) map[string][]string {
	out := map[string][]string{}
	for _, args := range all {
		maps.Copy(out, args)
	}
	return out
}

// fingerprint identifies the executable that was measured: a version number tells
// little about a build.
func fingerprint(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return "" // starting it will say why
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return ""
	}
	return ", SHA-256 " + hex.EncodeToString(sum.Sum(nil))[:12]
}

// parseSOCKS reads "name=client-command|server-command".
func parseSOCKS(spec string) (*contestant, error) {
	name, rest, ok := strings.Cut(spec, "=")
	client, server, two := strings.Cut(rest, "|")
	if !ok || !two || name == "" {
		return nil, fmt.Errorf("%q is not name=client-command|server-command", spec)
	}
	return socksPair(name, client, server)
}

// socksPair is any SOCKS5 proxy and its server, in whose commands {clientport}
// and {serverport} stand for the loopback ports that each is to listen on. The
// proxy is asked for the origin itself.
func socksPair(name, client, server string) (*contestant, error) {
	if !strings.Contains(client, "{clientport}") || !strings.Contains(client, "{serverport}") || !strings.Contains(server, "{serverport}") {
		return nil, fmt.Errorf("%s: the client's command must have {clientport} and {serverport}, the server's {serverport}", name)
	}
	return &contestant{
		name:      name,
		about:     fmt.Sprintf("SOCKS5 proxy `%s`, server `%s`", client, server) + fingerprint(splitCommand(client)[0]),
		processes: true,
		start: func(ctx context.Context, l launch) (*session, error) {
			ports, err := freePorts(2)
			if err != nil {
				return nil, err
			}
			fill := strings.NewReplacer("{clientport}", ports[0], "{serverport}", ports[1])
			s := &session{}
			if s.server, s.serverStartup, err = launchListener(ctx, fill.Replace(server), ports[1], l); err != nil {
				return nil, err
			}
			if s.client, s.clientStartup, err = launchListener(ctx, fill.Replace(client), ports[0], l); err != nil {
				_, stopErr := s.server.stop()
				return nil, errors.Join(err, stopErr)
			}
			proxy := net.JoinHostPort("127.0.0.1", ports[0])
			s.dial = func(ctx context.Context) (net.Conn, error) {
				return ptproc.Dial(ctx, proxy, l.origin, nil)
			}
			return s, nil
		},
	}, nil
}

// freePorts finds loopback ports that nobody listens on.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// launchListener starts a program that prints nothing when it is ready, and waits
// until its port takes connections.
func launchListener(ctx context.Context, command, port string, l launch) (*process, time.Duration, error) {
	p, err := spawn(splitCommand(command), os.Environ(), false, l.echo)
	if err != nil {
		return nil, 0, err
	}
	p.drained()
	deadline := p.began.Add(l.timeout)
	for {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", port), time.Second)
		if err == nil {
			startup := time.Since(p.began)
			return p, startup, c.Close()
		}
		if runErr := p.running(); runErr != nil {
			return nil, 0, runErr
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, 0, errors.Join(ctx.Err(), fmt.Errorf("%s does not listen on port %s: %w", p.name, port, err), p.kill())
		}
		time.Sleep(time.Millisecond)
	}
}

// splitCommand splits a command line at white space. There is no quoting: a
// program in need of more can be given a script.
func splitCommand(line string) []string { return strings.Fields(line) }
