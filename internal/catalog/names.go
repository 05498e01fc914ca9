package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"waterproxy/modules"
)

// Names returns the names of all transports, sorted.
func (c *Catalog) Names() ([]string, error) {
	names := append(modules.Names(), slices.Collect(maps.Keys(c.files))...)
	inDir, err := c.InDir()
	names = append(names, inDir...)
	if c.Repository != nil {
		index, indexErr := c.Repository.Index()
		names, err = append(names, index.Names()...), errors.Join(err, indexErr)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// BuiltIn reports whether a transport's module is the built-in one of that name.
func (c *Catalog) BuiltIn(name string) bool {
	return c.Has(name) && c.file(name) == ""
}

// Find returns an ErrUnknown that lists the transports unless there is one of that name.
func (c *Catalog) Find(name string) error {
	if c.Has(name) {
		return nil
	}
	names, err := c.Names()
	if len(names) == 0 {
		return errors.Join(fmt.Errorf("%w: %s; this executable was built without modules, run make", ErrUnknown, name), err)
	}
	return errors.Join(fmt.Errorf("%w: %s; there are %s", ErrUnknown, name, strings.Join(names, ", ")), err)
}
