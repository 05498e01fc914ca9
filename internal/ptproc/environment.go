package ptproc

import (
	"maps"
	"os"
	"slices"
	"strings"

	"waterproxy/internal/ptargs"
)

// Variables are those by which tor configures a managed proxy (pt-spec 3.2).
type Variables map[string]string

// Client returns the variables for a client with some transports. state is the directory
// for what they keep.
func Client(state string, transports ...string) Variables {
	v := common(state)
	v["TOR_PT_CLIENT_TRANSPORTS"] = strings.Join(transports, ",")
	return v
}

// Server returns the variables for a bridge with some transports, each at a free port of
// 127.0.0.1, and an ORPort at orPort. There is no Extended ORPort.
func Server(state, orPort string, transports ...string) Variables {
	v := common(state)
	binds := make([]string, len(transports))
	for i, name := range transports {
		binds[i] = name + "-127.0.0.1:0"
	}
	v["TOR_PT_SERVER_TRANSPORTS"] = strings.Join(transports, ",")
	v["TOR_PT_SERVER_BINDADDR"] = strings.Join(binds, ",")
	v["TOR_PT_ORPORT"] = orPort
	// tor sets this one to nothing if it has no Extended ORPort.
	v["TOR_PT_EXTENDED_SERVER_PORT"] = ""
	return v
}

func common(state string) Variables {
	return Variables{
		"TOR_PT_MANAGED_TRANSPORT_VER": "1",
		"TOR_PT_STATE_LOCATION":        state,
		"TOR_PT_EXIT_ON_STDIN_CLOSE":   "1",
	}
}

// With returns the variables with some added, or replaced.
func (v Variables) With(more Variables) Variables {
	all := maps.Clone(v)
	if all == nil {
		all = Variables{}
	}
	maps.Copy(all, more)
	return all
}

// WithOptions returns the variables with options of a server's transport.
func (v Variables) WithOptions(transport string, args map[string][]string) Variables {
	if len(args) == 0 {
		return v
	}
	return v.With(Variables{"TOR_PT_SERVER_TRANSPORT_OPTIONS": ptargs.FormatOptions(transport, args)})
}

// Without returns the variables except one.
func (v Variables) Without(key string) Variables {
	all := maps.Clone(v)
	delete(all, key)
	return all
}

// AddTo returns an environment with the variables added.
func (v Variables) AddTo(environment []string) []string {
	all := slices.Clone(environment)
	for _, key := range slices.Sorted(maps.Keys(v)) {
		all = append(all, key+"="+v[key])
	}
	return all
}

// CleanEnvironment returns this process's environment without the variables by which a
// tor may have configured it.
func CleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TOR_PT_") })
}
