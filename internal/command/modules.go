package command

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/catalog"
	"waterproxy/internal/program"
	"waterproxy/internal/repository"
	"waterproxy/internal/service"
	"waterproxy/internal/updater"
)

// modulesOptions are the flags of the subcommands of `waterproxy modules`.
type modulesOptions struct {
	name    string // of the subcommand
	catalog catalog.Catalog
	from    service.From
	to      string // a version
}

func modulesCommand() *ffcli.Command {
	o := &modulesOptions{name: "modules"}
	fs := o.flags()
	return &ffcli.Command{
		Name:       "modules",
		ShortUsage: "waterproxy modules [-state DIR] [flags]\n  waterproxy modules <subcommand> [flags]",
		ShortHelp:  "list the transports that are here, and keep them up to date from a repository",
		LongHelp:   "Each transport is listed with its version, its module's SHA-256, where it comes from,\nthe keys that signed it, and until when its repository vouches for it. See docs/repositories.md.",
		FlagSet:    fs,
		Subcommands: []*ffcli.Command{
			modulesUpdateCommand(), modulesImportCommand(), modulesRollbackCommand(), modulesUnpinCommand(),
		},
		Exec: interruptible(func(ctx context.Context, args []string) error {
			if err := o.check(args, 0, 0, "no arguments"); err != nil {
				return err
			}
			return o.list(os.Stdout)
		}),
	}
}

// flags returns the flags that all subcommands have.
func (o *modulesOptions) flags() *flag.FlagSet {
	fs := newFlagSet("waterproxy " + o.name)
	o.catalog.Flags(fs)
	fs.StringVar(&o.catalog.StateDir, "state", defaultState(), "the state directory that has the modules, `DIR`: for tor's own it is pt_state in its DataDirectory")
	o.catalog.StateFlag, o.catalog.Fetches = "-state DIR", true
	return fs
}

// check returns an error unless the flags are right and there are between least and most
// arguments.
func (o *modulesOptions) check(args []string, least, most int, what string) error {
	if len(args) < least || most >= 0 && len(args) > most {
		fmt.Fprintf(os.Stderr, "waterproxy %s takes %s\n", o.name, what)
		return errUsage
	}
	if o.catalog.StateDir == "" {
		fmt.Fprintf(os.Stderr, "waterproxy %s: name the state directory by -state DIR\n", o.name)
		return errUsage
	}
	if err := errors.Join(o.catalog.CheckFlags()...); err != nil {
		fmt.Fprintf(os.Stderr, "waterproxy %s: %v\n", o.name, err)
		return errUsage
	}
	return nil
}

// positional returns the arguments of a subcommand that are no flags, and sets the flags
// among them: people write them in any order.
func positional(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for len(args) > 0 {
		if len(args[0]) < 2 || args[0][0] != '-' {
			rest, args = append(rest, args[0]), args[1:]
			continue
		}
		if err := fs.Parse(args); err != nil {
			return nil, errUsage // the flag package has reported it
		}
		args = fs.Args()
	}
	return rest, nil
}

// sub returns a subcommand that takes between least and most arguments, as what says; most
// is -1 for any number.
func (o *modulesOptions) sub(fs *flag.FlagSet, usage, help, long string, least, most int, what string, do exec) *ffcli.Command {
	return &ffcli.Command{
		Name: strings.TrimPrefix(o.name, "modules "), ShortUsage: "waterproxy " + o.name + " " + usage, ShortHelp: help, LongHelp: long, FlagSet: fs,
		Exec: interruptible(func(ctx context.Context, args []string) error {
			args, err := positional(fs, args)
			if err == nil {
				err = o.check(args, least, most, what)
			}
			if err != nil {
				return err
			}
			return do(ctx, args)
		}),
	}
}

func modulesUpdateCommand() *ffcli.Command {
	o := &modulesOptions{name: "modules update"}
	fs := o.flags()
	fs.Func("from", "the repository at `URL-or-DIR`, or in a tar file; repeatable, for mirrors of one repository", func(where string) error {
		o.from.Mirrors = append(o.from.Mirrors, where)
		return nil
	})
	o.rootFlag(fs)
	fs.StringVar(&o.from.Via, "via", "", "reach the repository through the proxy at `URL`, as socks5://127.0.0.1:9050")
	return o.sub(fs, "-from URL-or-DIR -root FILE [-state DIR] [flags] [NAME...]", "look for news of a repository once, verify them and try them",
		"Without a NAME all transports of the repository are kept up to date. It fails if anything\nis refused; what was here stays then.", 0, -1, "",
		func(ctx context.Context, names []string) error {
			if len(o.from.Mirrors) == 0 {
				fmt.Fprintln(os.Stderr, "waterproxy modules update: name the repository by -from URL-or-DIR")
				return errUsage
			}
			return o.update(ctx, os.Stdout, names)
		})
}

func (o *modulesOptions) rootFlag(fs *flag.FlagSet) {
	fs.StringVar(&o.from.Root, "root", "", "trust the repository by the keys in `FILE`, from its publisher")
}

func modulesImportCommand() *ffcli.Command {
	o := &modulesOptions{name: "modules import"}
	fs := o.flags()
	o.rootFlag(fs)
	return o.sub(fs, "[-root FILE] [-state DIR] FILE.tar", "take news from a tar file or a directory, as somebody hands it over",
		"It is verified as if it had come from the repository: whoever handed it over is not\ntrusted. Without -root it has to be of the repository that is followed already.", 1, 1, "the name of one tar file",
		func(ctx context.Context, args []string) error {
			o.from.Mirrors = args
			return o.update(ctx, os.Stdout, nil)
		})
}

func modulesRollbackCommand() *ffcli.Command {
	o := &modulesOptions{name: "modules rollback"}
	fs := o.flags()
	fs.StringVar(&o.to, "to", "", "go back to `VERSION`, and not to the last that was used")
	return o.sub(fs, "[-to VERSION] [-state DIR] NAME", "go back to a version of a transport that is kept, and stay with it",
		"A running process takes it at SIGHUP, or at its next look for news. `waterproxy modules\nunpin` lets newer versions take its place again.", 1, 1, "the name of one transport",
		func(ctx context.Context, args []string) error {
			to, err := o.store().Rollback(ctx, args[0], o.to)
			if err == nil {
				fmt.Printf("%s is %s now, and stays so until `waterproxy modules unpin %s`\n", args[0], cmp.Or(to.Version, "-"), args[0])
			}
			return err
		})
}

func modulesUnpinCommand() *ffcli.Command {
	o := &modulesOptions{name: "modules unpin"}
	return o.sub(o.flags(), "[-state DIR] NAME", "let newer versions of a transport be used again, after a rollback", "", 1, 1, "the name of one transport",
		func(ctx context.Context, args []string) error {
			err := o.store().Unpin(ctx, args[0])
			if err == nil {
				fmt.Printf("newer versions of %s are used again, from the next look on\n", args[0])
			}
			return err
		})
}

func (o *modulesOptions) store() *repository.Store { return repository.New(o.catalog.StateDir) }

// update looks for news once, and tries what is new.
func (o *modulesOptions) update(ctx context.Context, w io.Writer, names []string) error {
	if err := o.from.Check(); err != nil {
		fmt.Fprintf(os.Stderr, "waterproxy %s: %v\n", o.name, err)
		return errUsage
	}
	root, err := o.root()
	if err != nil {
		return err
	}
	o.catalog.MakeState()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	news, err := updater.Look(ctx, updater.Request{
		State: o.catalog.StateDir, Root: root, From: o.from.Mirrors, Proxy: o.from.Via, Names: names, Retry: true,
	}, log)
	if ctx.Err() != nil {
		return errInterrupted
	}
	errs := []error{err}
	if err == nil {
		errs = append(errs, o.missing(names))
	}
	tried, err := o.try(ctx, w)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(w, "verified: %s, which is good until %s; %s\n", news.Mirror, news.Expires.Format(time.RFC3339),
		map[bool]string{true: "there is nothing new", false: fmt.Sprintf("new versions: %d", tried)}[tried == 0])
	return nil
}

// missing returns an error if the repository lacks one of the names.
func (o *modulesOptions) missing(names []string) error {
	offered, err := o.store().Offered()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(offered, func(v repository.Version) bool { return v.Transport == name }) {
			return fmt.Errorf("the repository has no transport %s; `waterproxy modules` lists what it has", name)
		}
	}
	return nil
}

// root returns the first trust; without one it is what is followed already.
func (o *modulesOptions) root() ([]byte, error) {
	if o.from.Root == "" {
		if root, err := o.store().TrustedRoot(); err == nil {
			return root, nil
		}
	}
	return repository.ReadRoot(o.from.Root)
}

// try tries what has been verified and not tried, and says what has become of it. It
// returns how many versions are new and not refused.
func (o *modulesOptions) try(ctx context.Context, w io.Writer) (n int, err error) {
	store := o.store()
	index, err := store.Index()
	if err != nil {
		return 0, err
	}
	state, err := os.MkdirTemp("", "waterproxy-try-") // what is wanted of a module is not its state
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	c := &o.catalog
	c.StateDir, c.Repository = state, store
	var errs []error
	for _, name := range index.Names() {
		v := index.Modules[name].Next
		if v == nil || c.FromRepository(name) == nil || c.FromRepository(name).SHA256 != v.SHA256 {
			continue
		}
		what := fmt.Sprintf("%s %s", name, cmp.Or(v.Version, "-"))
		roles, err := checkTransport(ctx, c, name)
		if ctx.Err() != nil {
			return n, errInterrupted
		}
		if _, ok := errors.AsType[*catalog.NeedsError](err); ok {
			fmt.Fprintf(w, "%s is verified, and tried when it is used: %v\n", what, err)
			n++
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is refused: %w", what, err), store.Refuse(ctx, v, err))
			continue
		}
		if err := store.Accept(ctx, v); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
		fmt.Fprintf(w, "%s is good, as %s\n", what, strings.Join(roles, " and "))
	}
	return n, errors.Join(errs...)
}

// list prints what is here.
func (o *modulesOptions) list(w io.Writer) error {
	store := o.store()
	o.catalog.Repository = store
	index, err := store.Index()
	if err != nil {
		return err
	}
	offered, err := store.Offered()
	if err != nil {
		return err
	}
	names, err := o.catalog.Names()
	if err != nil {
		return err
	}
	for _, v := range offered {
		names = append(names, v.Transport)
	}
	slices.Sort(names)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVERSION\tSHA-256\tSOURCE\tSIGNED BY\tEXPIRES\tSTATE")
	for _, name := range slices.Compact(names) {
		if err := o.listTransport(t, name, index.Modules[name], offered); err != nil {
			return err
		}
	}
	return t.Flush()
}

// listTransport prints the versions of a transport, the one that is used first.
func (o *modulesOptions) listTransport(t io.Writer, name string, m *repository.Module, offered []repository.Version) error {
	row := func(v *repository.Version, state string) {
		fmt.Fprintf(t, "%s\t%s\t%s\trepository\t%s\t%s\t%s\n", name, cmp.Or(v.Version, "-"), v.SHA256,
			cmp.Or(strings.Join(v.Signers, ","), "-"), v.Expires.Format(time.RFC3339), state)
	}
	used := "in use"
	if o.catalog.Has(name) && o.catalog.FromRepository(name) == nil {
		sum, err := o.catalog.Sum(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(t, "%s\t-\t%x\t%s\t-\t-\tin use\n", name, sum, map[bool]string{true: "built-in", false: "file"}[o.catalog.BuiltIn(name)])
		used = "behind the file"
	}
	here := map[string]bool{}
	if m != nil {
		if m.Current != nil {
			state := used
			switch {
			case m.Pinned:
				state += ", pinned"
			case m.Withdrawn:
				state += ", withdrawn by the repository"
			case time.Now().After(m.Current.Expires):
				state += ", expired"
			}
			row(m.Current, state)
		}
		if m.Next != nil {
			row(m.Next, "not tried yet")
		}
		for k := range m.Kept {
			row(&m.Kept[k], "kept")
		}
		for _, v := range m.Versions() {
			here[v.SHA256] = true
		}
	}
	for i := range offered {
		v := &offered[i]
		switch {
		case v.Transport != name || here[v.SHA256]:
		case m != nil && m.Refused != nil && m.Refused.SHA256 == v.SHA256:
			row(v, "refused: "+m.Refused.Reason)
		case v.Runs(program.Version) != nil:
			row(v, "not used: "+v.Runs(program.Version).Error())
		case m != nil && m.Pinned:
			row(v, "not used: "+name+" is pinned")
		default:
			row(v, "not fetched")
		}
	}
	return nil
}
