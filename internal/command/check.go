package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/bridgeline"
	"waterproxy/internal/catalog"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/settings"
	"waterproxy/internal/userfile"
	"waterproxy/internal/walls"
	"waterproxy/internal/web"
	"waterproxy/transport"
)

func checkCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy check")
	var line lineCheck
	line.catalog.Flags(fs)
	fs.DurationVar(&line.timeout, "timeout", transport.DefaultSetupTimeout, "how long to wait for a bridge")
	return &ffcli.Command{
		Name:       "check",
		ShortUsage: "waterproxy check DIR|FILE...\n  waterproxy check [flags] BRIDGE-LINE",
		ShortHelp:  "say what is wrong with modules and their settings, or with a bridge",
		LongHelp: "DIR is one for the flag -modules; FILE is a .wasm or .toml file. See docs/modules.md.\n" +
			"To a bridge it connects once, as `waterproxy client` would, with the same flags for\nmodules. See docs/standalone.md.",
		FlagSet: fs,
		Exec: interruptible(func(ctx context.Context, args []string) error {
			switch isLine := !exist(args) && bridgeline.IsLine(strings.Join(args, " ")); {
			case len(args) == 0:
				return checkUsage("it takes the names of directories or files, or a bridge line")
			case line.timeout <= 0:
				return checkUsage("-timeout: %v is no time to wait; it is more than 0, as 30s", line.timeout)
			case isLine:
				return reported(line.run(ctx, os.Stdout, strings.Join(args, " ")))
			case fs.NFlag() > 0:
				return checkUsage("%q is no bridge line, and flags are for one; give the names of directories and files as they are", args[0])
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, check(ctx, os.Stdout, name))
			}
			printWalls(os.Stdout)
			return reported(errors.Join(errs...))
		}),
	}
}

// printWalls says which walls this system has for a process that serves.
func printWalls(w io.Writer) {
	has := walls.Available()
	fmt.Fprintf(w, "second wall on this system: %s", has)
	if missing := has.Missing(); missing != "" {
		fmt.Fprintf(w, "; missing: %s", missing)
	}
	fmt.Fprintln(w)
}

func checkUsage(format string, args ...any) error {
	fmt.Fprintln(os.Stderr, "waterproxy check:", fmt.Sprintf(format, args...))
	return errUsage
}

// reported prints what is wrong. Of files that is FILE:LINE: ..., which editors know.
func reported(err error) error {
	if err == nil || errors.Is(err, errInterrupted) {
		return err
	}
	fmt.Fprintln(os.Stderr, ptlog.Shown(err.Error()))
	return errReported
}

// exist reports whether there is a file, or a directory, of each of the names.
func exist(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Lstat(name)
		return err != nil
	})
}

// check looks at one file, or at all that a directory has. It prints what is well.
func check(ctx context.Context, w io.Writer, name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return checkDir(ctx, w, name)
	case strings.HasSuffix(name, ".toml"):
		s, err := settings.Read(name)
		if err == nil {
			_, err = s.ReadConfig()
			err = named(name, errors.Join(err, web.Check(s.Web)))
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: good settings\n", name)
		return nil
	}
	wasm, err := userfile.Read(name, userfile.MaxModule)
	if err != nil {
		return err
	}
	m, err := compileApart(wasm)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer m.Close()
	fmt.Fprintf(w, "%s: a good module\n", name)
	return nil
}

// checkDir loads every transport of a directory and starts its module.
func checkDir(ctx context.Context, w io.Writer, dir string) error {
	state, err := os.MkdirTemp("", "waterproxy-check-") // what is wanted of a module is not its state
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	c := catalog.Catalog{Dir: dir, StateDir: state}
	names, err := c.InDir()
	if err != nil {
		return err
	}
	errs := c.CheckDir()
	for _, name := range names {
		roles, err := checkTransport(ctx, &c, name)
		if err != nil {
			errs = append(errs, named(filepath.Join(dir, name), err))
			continue
		}
		fmt.Fprintf(w, "%s: good, as %s\n", filepath.Join(dir, name), strings.Join(roles, " and "))
	}
	return errors.Join(errs...)
}

// named adds a name to errors that have none themselves.
func named(name string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// checkTransport returns what a transport can be. It starts the module as a client;
// as a server it may need options that only its operator knows.
func checkTransport(ctx context.Context, c *catalog.Catalog, name string) (roles []string, err error) {
	source, err := c.Read(name)
	if err != nil {
		return nil, err
	}
	if err := web.Check(source.Web()); err != nil {
		return nil, err
	}
	cfg, err := source.Config()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cfg.Module.Close()) }()
	if err := transport.SelfTest(ctx, cfg); err != nil {
		return nil, err
	}
	client, clientErr := transport.NewDialer(cfg)
	if clientErr == nil {
		roles = append(roles, "client")
		if err := errors.Join(client.Start(ctx), client.Close()); err != nil {
			return nil, err
		}
	}
	if slices.Contains(append(cfg.Module.Roles(), cfg.Module.ManyRoles()...), transport.RoleServer) {
		roles = append(roles, "server")
	}
	if len(roles) == 0 {
		return nil, clientErr
	}
	return roles, nil
}
