package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/peterbourgon/ff/v3/ffcli"

	"waterproxy/internal/bridgeline"
	"waterproxy/internal/program"
	"waterproxy/internal/userfile"
	"waterproxy/modules"
	"waterproxy/transport"
)

func inspectCommand() *ffcli.Command {
	return &ffcli.Command{
		Name:       "inspect",
		ShortUsage: "waterproxy inspect FILE.wasm|TRANSPORT ['BRIDGE LINE']",
		ShortHelp:  "print what a transport module offers and wants, or why it can't run",
		LongHelp: `With a bridge line, it also prints which addresses the line lets the module dial by the
rules that have @ARGUMENT. Those of a module file are what the operator grants it; the rules
that a built-in transport has are printed.`,
		FlagSet: newFlagSet("waterproxy inspect"),
		Exec: interruptible(func(_ context.Context, args []string) error {
			if len(args) == 0 {
				fmt.Fprintln(os.Stderr, "waterproxy inspect takes the name of one module file or built-in transport")
				return errUsage
			}
			var line *bridgeline.Line
			if len(args) > 1 {
				l, err := bridgeline.Parse(strings.Join(args[1:], " "))
				if err != nil {
					fmt.Fprintln(os.Stderr, "waterproxy inspect takes one module file or built-in transport, and then at most a bridge line for it:", err)
					return errUsage
				}
				line = &l
			}
			return inspect(os.Stdout, args[0], line)
		}),
	}
}

// readModule reads a module's file, or what is built in under that name if there is no such
// file; it then returns the rules that the built-in one has.
func readModule(name string) (wasm []byte, rules []string, err error) {
	if !strings.ContainsAny(name, "./") && slices.Contains(modules.Names(), name) {
		wasm, err = modules.Load(name)
		return wasm, modules.Allow(name), err
	}
	wasm, err = userfile.Read(name, userfile.MaxModule)
	return wasm, nil, err
}

// inspect prints what is known of a module, and, if line is not nil, what that grants it. A
// module that can't run is an error, after what can be said of it.
func inspect(w io.Writer, file string, line *bridgeline.Line) error {
	wasm, rules, err := readModule(file)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", key, fmt.Sprintf(format, args...))
	}
	row("file", "%s", file)
	row("size", "%d bytes", len(wasm))
	row("SHA-256", "%x", sha256.Sum256(wasm))
	m, err := compileApart(wasm)
	if err != nil {
		if flushErr := t.Flush(); flushErr != nil {
			return flushErr
		}
		return fmt.Errorf("%s can't run here: %w", file, err)
	}
	defer m.Close()
	row("ABI", "%s", m.ABI())
	row("roles, one connection", "%s", list(m.Roles()))
	for _, r := range []transport.Role{transport.RoleClient, transport.RoleFixedClient, transport.RoleServer, transport.RoleRelay} {
		if lacks, ok := errors.AsType[*transport.RoleError](m.CheckRole(r)); ok && !slices.Contains(m.ManyRoles(), r) {
			row("", "no %v: %s", r, lacks.Reason)
		}
	}
	row("roles, many connections", "%s", list(m.ManyRoles()))
	if m.SingleInstance() {
		row("", "single instance: one carries all connections")
	}
	least, most := m.Memory()
	if most == 0 || most > transport.DefaultMaxMemory {
		row("memory", "%s at the start, as much as the host allows", mebibytes(least))
	} else {
		row("memory", "%s at the start, %s at most", mebibytes(least), mebibytes(most))
	}
	row("memory in all", "%s at the start, with its tables, its globals and its thread", mebibytes(m.LeastMemory()))
	if m.Threads() {
		row("threads", "wanted; an instance may have %d besides the one it begins with", transport.DefaultMaxThreads)
	}
	if m.HostCrypto() {
		row("cryptography", "by the host")
	}
	row("half-close", "%s", map[bool]string{true: "by the module itself", false: "by the host, for the module"}[m.HalfClose()])
	for i, name := range m.Imports() {
		row(map[bool]string{true: "imports"}[i == 0], "%s", name)
	}
	row("granted", "its configuration, as /conf/watm.cfg (v1) or by pull_config (v0)")
	row("", "clocks and random numbers")
	if m.HalfClose() || len(m.ManyRoles()) > 0 {
		row("", "its role and arguments, as files below /watm")
	}
	row("", "at most %s of memory (%s for many connections), %d open descriptors for a connection and %d instances",
		mebibytes(transport.DefaultMaxMemory), mebibytes(transport.DefaultManyMemory), transport.DefaultMaxDescriptors, transport.DefaultMaxInstances)
	for _, rule := range rules {
		row("", "to dial %s", describeRule(rule))
	}
	if line != nil {
		printGranted(row, line)
	}
	row("not granted", "other files, the environment, standard input and output (what it prints is logged)")
	row("", "addresses of its own choice%s and a directory for state, unless the operator grants them", map[bool]string{true: " besides these"}[len(rules) > 0])
	return t.Flush()
}

// compileApart compiles a module in a process with limits, and keeps nothing.
func compileApart(wasm []byte) (m *transport.Module, err error) {
	dir, err := os.MkdirTemp("", "waterproxy-compiled-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return transport.Compile(wasm, transport.CompileOptions{CacheDir: dir, Compiler: program.Compiler})
}

func list[T fmt.Stringer](items []T) string {
	if len(items) == 0 {
		return "none"
	}
	var names []string
	for _, i := range items {
		names = append(names, i.String())
	}
	return strings.Join(names, ", ")
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20)) }

// describeRule returns a rule of a built-in transport in words.
func describeRule(rule string) string {
	return fmt.Sprintf("by itself what its bridge line has in the argument %s (rule %s)", strings.TrimPrefix(rule, "@"), rule)
}

// printGranted prints the addresses that each argument of a bridge line would let a module
// dial, by a rule that names the argument.
func printGranted(row func(key, format string, args ...any), line *bridgeline.Line) {
	none := true
	for _, name := range slices.Sorted(maps.Keys(line.Args)) {
		rule, err := transport.ParseAddressRule("@" + name)
		if err != nil {
			continue // no rule can name this argument
		}
		for _, r := range rule.For(line.Args) {
			none = false
			row("by this line", "%s, if it has the rule %s", r, rule)
		}
	}
	if none {
		row("by this line", "no address: no argument of it has one")
	}
}
