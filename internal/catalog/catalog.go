// Package catalog finds the module that a transport's name stands for.
package catalog

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"waterproxy/internal/ptargs"
	"waterproxy/internal/repository"
	"waterproxy/modules"
	"waterproxy/transport"
)

// ErrUnknown means that no module has the transport's name.
var ErrUnknown = errors.New("no such transport")

// Catalog finds modules by transport name: those that the user named come
// before those of a directory, and these before those of a repository and the built-in ones. Once it is filled, it is safe for concurrent use.
type Catalog struct {
	// Dir has modules and settings by name; see docs/modules.md. Empty: none.
	Dir string
	// StateDir is where compiled modules are kept (see transport.CompileOptions),
	// and what modules keep themselves. Empty: neither is.
	StateDir string
	// StateFlag is how the user names another StateDir.
	StateFlag string
	// Log gets what is wrong with what is kept there. Nil: it is dropped.
	Log *slog.Logger
	// Served is how many transports the process serves, which share its descriptors; 0 is
	// one. It is set before they are loaded.
	Served int
	// Repository has modules that come from elsewhere, and are verified; nil for none. They
	// come after those of files, and before the built-in ones.
	Repository *repository.Store
	// Fetches is whether transports may come from a repository later: a flag, or settings, for
	// one that is not here are no mistake then.
	Fetches bool
	// NoHostCrypto is that of transport.Config, for all transports.
	NoHostCrypto bool

	stateErr  error     // why StateDir could not be made
	indexOnce sync.Once // for the log
	cacheOnce sync.Once
	cacheDir  string // see CacheDir

	// By transport name.
	files     map[string]string // module files
	configs   map[string]string // configuration files
	allowed   map[string][]transport.AddressRule
	instances map[string]int // for transport.Config.Instances
	stateful  map[string]bool
	kept      map[string]bool    // see KeepState
	misused   map[string][]error // by flags
}

// AddModule maps a transport name to a module file, given as NAME=FILE.
func (c *Catalog) AddModule(arg string) error { return addFile(&c.files, arg) }

// AddConfig gives a transport's module a configuration file, as NAME=FILE.
func (c *Catalog) AddConfig(arg string) error { return addFile(&c.configs, arg) }

// AddAllow grants a transport's module addresses, as NAME=RULE; see
// transport.ParseAddressRule.
func (c *Catalog) AddAllow(arg string) error {
	name, text, err := split(arg, "RULE")
	if err != nil {
		return err
	}
	rule, err := transport.ParseAddressRule(text)
	if err != nil {
		return err
	}
	if c.allowed == nil {
		c.allowed = map[string][]transport.AddressRule{}
	}
	c.allowed[name] = append(c.allowed[name], rule)
	return nil
}

// AddInstances sets how many instances of a transport's module share its
// connections, as NAME=N, or, as NAME=each, that each connection has its own.
func (c *Catalog) AddInstances(arg string) error {
	name, text, err := split(arg, "N|each")
	if err != nil {
		return err
	}
	if text == "each" {
		return add(&c.instances, name, transport.InstancePerConn)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of instances: it is 1 or more, or each", text)
	}
	return add(&c.instances, name, n)
}

// AddState grants the module of the transport NAME a directory of its own below
// StateDir.
func (c *Catalog) AddState(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return add(&c.stateful, name, true)
}

// KeepState grants the module of the transport NAME a directory of its own if there can
// be one. Without, the module runs as well, if it can.
func (c *Catalog) KeepState(name string) {
	if c.kept == nil {
		c.kept = map[string]bool{}
	}
	c.kept[name] = true
}

// split parts NAME=VALUE.
func split(arg, what string) (name, value string, err error) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || value == "" {
		return "", "", fmt.Errorf("%q is not of the form NAME=%s", arg, what)
	}
	return name, value, checkName(name)
}

func addFile(m *map[string]string, arg string) error {
	name, file, err := split(arg, "FILE")
	if err != nil {
		return err
	}
	return add(m, name, file)
}

func add[V any](m *map[string]V, name string, value V) error {
	if _, twice := (*m)[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = value
	return nil
}

// checkName returns an error that quotes a name that tor would not take.
func checkName(name string) error {
	if err := ptargs.CheckName(name); err != nil {
		return fmt.Errorf("%q is no transport name: %w", name, err)
	}
	return nil
}

// CheckFlags returns what is wrong with flags: each error costs its own transport, and
// those of flags that no transport uses cost nothing.
func (c *Catalog) CheckFlags() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.misused)) {
		errs = append(errs, c.misused[name]...)
	}
	for _, given := range []struct {
		what  string
		names iter.Seq[string]
	}{
		{"a configuration is given", maps.Keys(c.configs)},
		{"addresses are granted", maps.Keys(c.allowed)},
		{"a number of instances is given", maps.Keys(c.instances)},
		{"a directory for state is granted", maps.Keys(c.stateful)},
	} {
		for _, name := range slices.Sorted(given.names) {
			if !c.Fetches && !c.Has(name) {
				errs = append(errs, fmt.Errorf("%s to %s, which is no transport here", given.what, name))
			}
		}
	}
	return errs
}

// Has reports whether there is a transport of that name.
func (c *Catalog) Has(name string) bool {
	return checkName(name) == nil && (c.file(name) != "" || slices.Contains(modules.Names(), name))
}
