package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/client"
	"waterproxy/internal/bridgeline"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
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
			local := client.Local{Address: forward, Bridge: line, SOCKS: false}
			switch {
			case forward != "" && socks != "":
				fmt.Fprintln(os.Stderr, "waterproxy client: -socks and -forward exclude each other")
				return errUsage
			case forward == "":
				local.Address, local.SOCKS = socks, true
				if socks == "" {
					local.Address = "127.0.0.1:1080"
				}
			}
			if err := bridgeline.CheckListenAddress(local.Address); err != nil {
				fmt.Fprintf(os.Stderr, "waterproxy client: %s: %v\n", map[bool]string{true: "-socks", false: "-forward"}[local.SOCKS], err)
				return errUsage
			}
			err = s.run(func(ctx context.Context, on *service.Service) (service.Runner, error) {
				return startClient(ctx, on, local)
			})
			if refused, ok := errors.AsType[*transport.ArgsError](err); ok {
				fmt.Fprintf(os.Stderr, "waterproxy client: %s: %v\n", line.Transport, refused)
				return errUsage
			}
			return err
		},
	}
}

// startClient starts the client of a bridge, and prints where it listens.
func startClient(ctx context.Context, on *service.Service, local client.Local) (*client.Proxy, error) {
	if err := on.Catalog.Find(local.Bridge.Transport); err != nil {
		return nil, err
	}
	p, err := client.ListenLocal(ctx, local, on.Log, on.Meter)
	if err != nil {
		return nil, err
	}
	if err := on.Loaded.Start(ctx, local.Bridge.Transport, nil, p); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", local.Bridge.Transport, err), p.Close())
	}
	p.Serve(nil)
	what := "TCP forward"
	if local.SOCKS {
		what = "SOCKS5 proxy"
	}
	fmt.Fprintf(ptlog.Stdout(), "%s at %s\n", what, p.Addr())
	return p, nil
}
