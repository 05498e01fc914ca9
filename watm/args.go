package watm

import "waterproxy/internal/control"

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

// String writes the arguments as a bridge line has them.
func (a Args) String() string { return control.FormatArgs(a) }
