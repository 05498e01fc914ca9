package main

import (
	"context"
	"fmt"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/catalog"
	"waterproxy/internal/demo"
)

func demoCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy demo")
	var o demo.Options
	var c catalog.Catalog
	fs.StringVar(&o.Transport, "transport", demo.DefaultTransport, "the transport to show")
	fs.BoolVar(&o.Keep, "keep", false, "leave everything running and print the SOCKS address, until Ctrl-C")
	fs.BoolVar(&o.NoTor, "no-tor", false, "run the two transport processes without tor")
	given := func(flag string, add func(string) error) func(string) error {
		return func(v string) error {
			o.Args = append(o.Args, flag, v)
			return add(v)
		}
	}
	fs.Func("module", "run the transport NAME with the module in FILE, as NAME=FILE; repeatable", given("-module", c.AddModule))
	fs.Func("module-config", "give NAME's module the configuration in FILE, as NAME=FILE; repeatable", given("-module-config", c.AddConfig))
	return &ffcli.Command{
		Name:       "demo",
		ShortUsage: "waterproxy demo [flags]",
		ShortHelp:  "fetch a file through a private Tor network on this machine, by a transport",
		FlagSet:    fs,
		Exec: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("demo takes no arguments, only flags; got %q", args[0])
			}
			sum, err := c.Sum(o.Transport)
			if err != nil {
				return err
			}
			o.ModuleSHA256 = fmt.Sprintf("%x", sum)
			return demo.Run(ctx, o)
		},
	}
}
