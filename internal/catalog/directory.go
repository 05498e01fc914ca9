package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"waterproxy/internal/settings"
)

// Suffixes of the files in a Catalog's directory.
const (
	moduleSuffix   = ".wasm"
	settingsSuffix = ".toml"
)

// file returns the module file of a transport, "" if the module is built in.
func (c *Catalog) file(name string) string {
	if file, ok := c.files[name]; ok {
		return file
	}
	if c.Dir != "" {
		file := filepath.Join(c.Dir, name+moduleSuffix)
		// What is there and cannot be read is an error when it is loaded.
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return file
		}
	}
	return ""
}

// settingsFile returns where a transport's settings would be, "" if nowhere.
func (c *Catalog) settingsFile(name string) string {
	if c.Dir == "" {
		return ""
	}
	return filepath.Join(c.Dir, name+settingsSuffix)
}

// settings returns what a transport's file says, nothing if there is none.
func (c *Catalog) settings(name string) (settings.Settings, error) {
	file := c.settingsFile(name)
	if file == "" {
		return settings.Settings{}, nil
	}
	s, err := settings.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// InDir returns the transports that the directory says something about, sorted, if
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

// list returns the names of the modules and of the settings in the directory.
func (c *Catalog) list() (wasm, toml []string, err error) {
	if c.Dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), moduleSuffix); ok {
			wasm = append(wasm, name)
		} else if name, ok := strings.CutSuffix(e.Name(), settingsSuffix); ok {
			toml = append(toml, name)
		}
	}
	return wasm, toml, nil
}

// checkDir reports names in the directory that are none of transports, and
// settings that no transport would use. What is in the files concerns one transport
// each, and is told when that is loaded.
func (c *Catalog) checkDir() error {
	wasm, toml, err := c.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range wasm {
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(c.Dir, name+moduleSuffix), err))
		}
	}
	for _, name := range toml {
		if !c.Has(name) {
			errs = append(errs, fmt.Errorf("%s: there is no transport %s", c.settingsFile(name), name))
		}
	}
	return errors.Join(errs...)
}

// Files returns the files that make up a transport, whether or not they exist.
func (c *Catalog) Files(name string) (files []string) {
	add := func(file string) {
		if file != "" {
			files = append(files, file)
		}
	}
	add(c.files[name])
	if c.files[name] == "" && c.Dir != "" {
		add(filepath.Join(c.Dir, name+moduleSuffix))
	}
	add(c.settingsFile(name))
	if file, ok := c.configs[name]; ok {
		add(file)
	} else if s, err := c.settings(name); err == nil {
		add(s.Config)
	}
	return files
}

// Digest returns a hash of a transport's files. It changes when one of them does,
// appears or goes.
func (c *Catalog) Digest(name string) ([sha256.Size]byte, error) {
	all := sha256.New()
	for _, file := range c.Files(name) {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		fmt.Fprintf(all, "%q %x\n", file, sha256.Sum256(text))
	}
	return [sha256.Size]byte(all.Sum(nil)), nil
}
