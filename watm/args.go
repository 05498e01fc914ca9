package watm

import (
	"fmt"
	"slices"

	"waterproxy/internal/ptargs"
)

// Args are the arguments of a connection or of a server (pt-spec 3.5 and 3.2.3).
// A name can have several values.
type Args map[string][]string

// Get returns the first value of an argument and whether there is one.
func (a Args) Get(name string) (value string, ok bool) {
	if vs := a[name]; len(vs) > 0 {
		return vs[0], true
	}
	return "", false
}

// CheckOnce returns an error if one of the named arguments has several values that
// differ.
func (a Args) CheckOnce(names ...string) error {
	for _, name := range names {
		if len(slices.Compact(slices.Clone(a[name]))) > 1 {
			return fmt.Errorf("the argument %s is given more than once, with different values", name)
		}
	}
	return nil
}

// String writes the arguments as a bridge line has them.
func (a Args) String() string { return ptargs.Format(a) }
