// Package catalog says which module a transport's name stands for.
package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"waterproxy/modules"
	"waterproxy/transport"
)

// ErrUnknown means that no module has the transport's name.
var ErrUnknown = errors.New("no such transport")

// Catalog finds modules by transport name: those that the user named come
// before the built-in ones. It is not safe for concurrent use.
type Catalog struct {
	// CacheDir is where compiled modules are kept; see transport.CompileOptions.
	CacheDir string

	files   map[string]string // transport name to module file
	configs map[string]string // transport name to configuration file
	allowed map[string][]transport.AddressRule
}

// AddModule maps a transport name to a module file, given as NAME=FILE.
func (c *Catalog) AddModule(arg string) error { return add(&c.files, arg) }

// AddConfig gives a transport's module a configuration file, as NAME=FILE.
func (c *Catalog) AddConfig(arg string) error { return add(&c.configs, arg) }

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

// split parts NAME=VALUE.
func split(arg, what string) (name, value string, err error) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || value == "" {
		return "", "", fmt.Errorf("%q is not of the form NAME=%s", arg, what)
	}
	return name, value, checkName(name)
}

func add(m *map[string]string, arg string) error {
	name, file, err := split(arg, "FILE")
	if err != nil {
		return err
	}
	if _, twice := (*m)[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[name] = file
	return nil
}

// checkName tells whether tor would take the name: it must be a C identifier
// (pt-spec 3.1).
func checkName(name string) error {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return fmt.Errorf("%q is no transport name: letters, digits and _ only, and no digit first", name)
		}
	}
	if name == "" {
		return errors.New("a transport's name is empty")
	}
	return nil
}

// Check reports settings that no transport would use, by name.
func (c *Catalog) Check() error {
	for name := range c.configs {
		if !c.has(name) {
			return fmt.Errorf("a configuration is given for %s, which is no transport here", name)
		}
	}
	for name := range c.allowed {
		if !c.has(name) {
			return fmt.Errorf("addresses are granted to %s, which is no transport here", name)
		}
	}
	return nil
}

func (c *Catalog) has(name string) bool {
	if _, ok := c.files[name]; ok {
		return true
	}
	return slices.Contains(modules.Names(), name)
}

// Load compiles the module of a transport and returns the configuration to run
// it with. The error is an ErrUnknown if there is no such transport.
func (c *Catalog) Load(name string) (transport.Config, error) {
	var cfg transport.Config
	wasm, err := c.wasm(name)
	if err != nil {
		return cfg, err
	}
	if file, ok := c.configs[name]; ok {
		if cfg.ModuleConfig, err = os.ReadFile(file); err != nil {
			return cfg, fmt.Errorf("read the module's configuration: %w", err)
		}
	}
	cfg.Allow = c.allowed[name]
	cfg.Module, err = transport.Compile(wasm, transport.CompileOptions{CacheDir: c.CacheDir})
	return cfg, err
}

// Sum returns the SHA-256 of a transport's module file.
func (c *Catalog) Sum(name string) (sum [sha256.Size]byte, err error) {
	wasm, err := c.wasm(name)
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(wasm), nil
}

func (c *Catalog) wasm(name string) ([]byte, error) {
	if file, ok := c.files[name]; ok {
		wasm, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the module: %w", err)
		}
		return wasm, nil
	}
	wasm, err := modules.Load(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s; %s", ErrUnknown, name, builtIn())
	}
	return wasm, nil
}

// builtIn says which transports there are without a module file.
func builtIn() string {
	names := modules.Names()
	if len(names) == 0 {
		return "this executable was built without modules, run make"
	}
	return "built in: " + strings.Join(names, ", ")
}

// CacheIn returns the directory for compiled modules below a state directory.
func CacheIn(state string) string { return filepath.Join(state, "compiled") }
