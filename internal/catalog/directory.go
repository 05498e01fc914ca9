package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"waterproxy/internal/userfile"
)

// Suffixes of the files in a Catalog's directory.
const (
	moduleSuffix   = ".wasm"
	settingsSuffix = ".toml"
)

// file returns the module file of a transport, "" if the module is built in.
func (c *Catalog) file(name string) string {
	if file := c.userFile(name); file != "" {
		return file
	}
	if v := c.version(name); v != nil {
		return c.Repository.ModuleFile(v)
	}
	return ""
}

// userFile returns the module file that the user has put there, "" if there is none.
func (c *Catalog) userFile(name string) string {
	if file, ok := c.files[name]; ok {
		return file
	}
	return c.present(name + moduleSuffix)
}

// present returns the path of a file of the directory, "" if there is none. One that
// cannot be read is an error when it is.
func (c *Catalog) present(base string) string {
	file := c.inDir(base)
	if file == "" {
		return ""
	}
	if _, err := os.Lstat(file); err != nil {
		return "" // CheckDir returns what is wrong with the directory
	}
	return file
}

// reachDir returns why the files of the directory cannot be reached, nil if they can.
func (c *Catalog) reachDir() error {
	if c.Dir == "" {
		return nil
	}
	_, err := os.Lstat(c.Dir + "/.")
	return err
}

// inDir returns the path that a file of the directory has or would have, "" if there is
// no directory.
func (c *Catalog) inDir(base string) string {
	if c.Dir == "" {
		return ""
	}
	return filepath.Join(c.Dir, base)
}

// InDir returns the transports of which the directory has a file, sorted, if
// there are such transports.
func (c *Catalog) InDir() ([]string, error) {
	wasm, toml, err := c.list()
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(append(wasm, toml...), func(name string) bool { return !c.Has(name) })
	slices.Sort(names)
	return slices.Compact(names), nil
}

// list returns the names of the modules and of the settings in the directory, in no
// order.
func (c *Catalog) list() (wasm, toml []string, err error) {
	if c.Dir == "" {
		return nil, nil, nil
	}
	entries, err := userfile.ReadDir(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if isHidden(e.Name()) {
			continue
		}
		if name, ok := strings.CutSuffix(e.Name(), moduleSuffix); ok {
			wasm = append(wasm, name)
		} else if name, ok := strings.CutSuffix(e.Name(), settingsSuffix); ok {
			toml = append(toml, name)
		}
	}
	return wasm, toml, nil
}

// isHidden reports whether a file is hidden, or temporary: the lock, the copy or the
// attributes that an editor or a system puts beside a file.
func isHidden(name string) bool { return strings.ContainsRune(".#~", rune(name[0])) }

// CheckDir returns what is wrong with the directory, with names in it that are none of
// transports, and with settings that no transport would use. None of it costs a
// transport anything. What is in the files concerns one transport each, and is an error
// of [Catalog.Read].
func (c *Catalog) CheckDir() []error {
	wasm, toml, err := c.list()
	if err == nil {
		err = c.reachDir()
	}
	if err != nil {
		return []error{fmt.Errorf("the directory of modules cannot be read: %w", err)}
	}
	slices.Sort(wasm)
	slices.Sort(toml)
	var errs []error
	for _, name := range wasm {
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("%s is not offered: %w", c.inDir(name+moduleSuffix), err))
		}
	}
	for _, name := range toml {
		if !c.Fetches && !c.Has(name) {
			errs = append(errs, fmt.Errorf("%s is not used: there is no transport %s", c.inDir(name+settingsSuffix), name))
		}
	}
	return errs
}
