package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/client"
	"waterproxy/internal/bridgeline"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/transports"
	"waterproxy/transport"
)

func clientCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy client")
	var s standalone
	var socks, forward string
	fs.StringVar(&socks, "socks", "", "serve SOCKS5 at `ADDRESS` (default 127.0.0.1:1080, unless there is -forward)")
	fs.StringVar(&forward, "forward", "", "send what comes to `ADDRESS` to the bridge as it is")
	s.register(fs)
	return &ffcli.Command{
		Name:       "client",
		ShortUsage: "waterproxy client [flags] BRIDGE-LINE",
		ShortHelp:  "carry connections to a bridge, without tor",
		LongHelp: "The bridge line is one as in torrc, in quotes or not; `waterproxy server` prints it.\n" +
			"Where connections go from the bridge is set there. See docs/standalone.md.",
		FlagSet: fs,
		Exec: func(_ context.Context, args []string) error {
			line, err := bridgeline.Parse(strings.Join(args, " "))
			if err != nil {
				fmt.Fprintln(os.Stderr, "waterproxy client:", err)
				return errUsage
			}
			if forward != "" && socks != "" {
				fmt.Fprintln(os.Stderr, "waterproxy client: -socks and -forward exclude each other")
				return errUsage
			}
			to := client.Bridge{Address: line.Address, Args: line.Args}
			in := entrance{"-forward", "TCP forward", forward, client.Forward{Bridge: to}}
			if forward == "" {
				in = entrance{"-socks", "SOCKS5 proxy", cmp.Or(socks, "127.0.0.1:1080"), client.SOCKS{Bridge: to}}
			}
			if err := bridgeline.CheckListenAddress(in.address); err != nil {
				fmt.Fprintf(os.Stderr, "waterproxy client: %s: %v\n", in.flag, err)
				return errUsage
			}
			err = s.run(func(ctx context.Context, on *service.Service) (service.Runner, error) {
				return startClient(ctx, on, line, in)
			})
			if refused, ok := errors.AsType[*transport.ArgsError](err); ok {
				fmt.Fprintf(os.Stderr, "waterproxy client: %s: %v\n", line.Transport, refused)
				return errUsage
			}
			return err
		},
	}
}

// entrance is where applications connect to.
type entrance struct {
	flag, what, address string
	frontend            client.Frontend
}

// startClient starts the client of a bridge, and prints where it listens. What no
// connection could use in the bridge line is an error.
func startClient(ctx context.Context, on *service.Service, line bridgeline.Line, in entrance) (*client.Proxy, error) {
	if err := on.Have(ctx, line.Transport); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", in.address)
	if err != nil {
		return nil, err
	}
	on.RaiseWalls(service.Needs{Transports: []string{line.Transport}, Connect: portOf(line.Address), Args: line.Args})
	d, err := on.Transports.NewDialer(ctx, transports.Options{
		Name:  line.Transport,
		Check: func(ctx context.Context, cfg transport.Config) error { return transport.CheckArgs(ctx, cfg, line.Args) },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", line.Transport, err), ln.Close())
	}
	p := client.Serve(ctx, ln, d, in.frontend, client.Options{Transport: line.Transport, Log: on.Log, Meter: on.Meter})
	fmt.Fprintf(ptlog.Stdout(), "%s at %s\n", in.what, p.Addr())
	return p, nil
}
