package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/catalog"
	"waterproxy/internal/demo"
)

func demoCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy demo")
	var o demo.Options
	var c catalog.Catalog
	fs.StringVar(&o.Transport, "transport", "", "the transport to show (default: that of -module, or "+demo.DefaultTransport+")")
	fs.BoolVar(&o.Keep, "keep", false, "leave everything running and print the SOCKS address, until Ctrl-C")
	fs.BoolVar(&o.NoTor, "no-tor", false, "run the two transport processes without tor")
	fs.BoolVar(&o.Update, "update", false, "get the module from a repository, and replace it while a file is fetched")
	var named, configured []string // transports given with -module and -module-config
	// The processes run in folders of their own, so paths have to be absolute.
	given := func(flag string, add func(string) error) func(string) error {
		return func(v string) error {
			if name, file, ok := strings.Cut(v, "="); ok && file != "" {
				path, err := filepath.Abs(file)
				if err != nil {
					return err
				}
				v = name + "=" + path
				if flag == "-module" {
					named = append(named, name)
				} else {
					configured = append(configured, name)
				}
			}
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
		Exec: interruptible(func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("demo takes no arguments, only flags; got %q", args[0])
			}
			switch {
			case o.Transport != "":
			case len(named) == 1:
				o.Transport = named[0]
			case len(named) > 1:
				return fmt.Errorf("several modules are given; say with -transport which one to show")
			default:
				o.Transport = demo.DefaultTransport
			}
			if o.Update && len(configured) > 0 {
				return errors.New("a repository has modules without configurations; -update and -module-config do not go together")
			}
			wasm, err := c.Module(o.Transport)
			if err != nil {
				return err
			}
			o.Module, o.ModuleSHA256 = wasm, fmt.Sprintf("%x", sha256.Sum256(wasm))
			err = demo.Run(ctx, o)
			if err != nil && ctx.Err() != nil {
				return errInterrupted
			}
			return err
		}),
	}
}
