package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/bridgeline"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/transports"
	"waterproxy/server"
	"waterproxy/transport"
)

// serverOptions are the flags of the server alone.
type serverOptions struct {
	transport, listen, forward, public string
	args                               transport.Args
}

func serverCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy server")
	var s standalone
	o := serverOptions{args: transport.Args{}}
	fs.StringVar(&o.transport, "transport", "", "the transport's `NAME`")
	fs.StringVar(&o.listen, "listen", "", "listen for clients at `ADDRESS`, as 0.0.0.0:443")
	fs.StringVar(&o.forward, "forward", "", "pass on connections to `ADDRESS`")
	fs.StringVar(&o.public, "public", "", "the `ADDRESS` at which clients reach this server, for the bridge line")
	fs.Func("option", "give the module an option, as `KEY=VALUE`; repeatable", func(arg string) error {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not of the form KEY=VALUE", arg)
		}
		o.args[key] = append(o.args[key], value)
		return nil
	})
	s.register(fs)
	return &ffcli.Command{
		Name:       "server",
		ShortUsage: "waterproxy server -transport NAME -listen ADDRESS -forward ADDRESS [flags]",
		ShortHelp:  "accept connections of clients and pass them on, without tor",
		LongHelp:   "It prints the bridge line to give to clients. See docs/standalone.md.",
		FlagSet:    fs,
		Exec: func(_ context.Context, args []string) error {
			if err := o.check(args); err != nil {
				fmt.Fprintln(os.Stderr, "waterproxy server:", err)
				return errUsage
			}
			return s.run(func(ctx context.Context, on *service.Service) (service.Runner, error) { return startServer(ctx, on, o) })
		},
	}
}

func (o *serverOptions) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("it takes no arguments, only flags; got %q", args[0])
	case o.transport == "" || o.listen == "" || o.forward == "":
		return errors.New("-transport, -listen and -forward are needed")
	}
	check := func(flag string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", flag, err)
	}
	err := errors.Join(check("-listen", bridgeline.CheckListenAddress(o.listen)), check("-forward", bridgeline.CheckAddress(o.forward)))
	if o.public != "" {
		err = errors.Join(err, check("-public", bridgeline.CheckAddress(o.public)))
	}
	return err
}

// startServer starts a transport of a bridge, and prints the bridge line.
func startServer(ctx context.Context, on *service.Service, o serverOptions) (*server.Listener, error) {
	if err := on.Have(ctx, o.transport); err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", o.listen)
	if err != nil {
		return nil, err
	}
	// Without a place for its keys, a module would ask for other ones in the bridge
	// line at each start.
	on.Catalog.KeepState(o.transport)
	options := transports.Options{Name: o.transport, Args: o.args}
	if err := on.Transports.CheckServer(options); err != nil {
		return nil, fmt.Errorf("%s: %w", o.transport, err)
	}
	inner, err := server.Listen(addr)
	if err != nil {
		return nil, err
	}
	if o.public == "" {
		o.public = reachable(inner.Addr().(*net.TCPAddr)).String()
	}
	on.RaiseWalls(service.Needs{Transports: []string{o.transport}, Servers: true, Connect: portOf(o.forward)})
	ln, published, err := on.Transports.NewListener(ctx, options, inner)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.transport, err)
	}
	l := server.Serve(ln, server.Forward(o.forward), server.Options{Transport: o.transport, Log: on.Log, Meter: on.Meter})
	if published.Args != nil {
		if err := on.Catalog.StateError(o.transport); err != nil {
			on.Log.Warn("the bridge line may be another at the next start: the module cannot keep anything", "transport", o.transport, "error", err)
		}
	}
	if published.Address.IsValid() {
		o.public = published.Address.String()
	}
	fmt.Fprintln(ptlog.Stdout(), bridgeline.Line{Transport: o.transport, Address: o.public, Args: published.Args})
	return l, nil
}

// reachable guesses where clients reach a listener: at its own address, or, if that
// is every address, at the first of this machine that is not for itself alone.
func reachable(addr *net.TCPAddr) *net.TCPAddr {
	if !addr.IP.IsUnspecified() {
		return addr
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return addr // it is only a guess
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil || addr.IP.To4() == nil) {
			return &net.TCPAddr{IP: n.IP, Port: addr.Port}
		}
	}
	return addr
}
