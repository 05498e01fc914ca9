// Package modules holds the transport modules that are built into the
// executable. Their sources are in the folders beside this file, one each.
package modules

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

// The folder has a README besides what make puts there, so that the package
// compiles before the modules do.
//
//go:embed built
var built embed.FS

const suffix = ".wasm"

// Names returns the names of the built-in transports, sorted.
func Names() (names []string) {
	entries, err := built.ReadDir("built")
	if err != nil {
		panic("the embedded folder is missing: " + err.Error()) // cannot happen: it is compiled in
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			names = append(names, name)
		}
	}
	return names
}

// stateFiles names files in tor's state directory which a built-in module shares
// with other implementations of its transport, so that an operator can exchange
// one for the other.
var stateFiles = map[string][]string{
	"obfs4": {
		"obfs4_state.json", "obfs4_bridgeline.txt",
		"obfs4_new", "obfs4_new/obfs4_state.json", "obfs4_new/obfs4_bridgeline.txt", // while they are written
	},
}

// StateFiles returns the names of those files for a built-in transport.
func StateFiles(name string) []string { return stateFiles[name] }

// allow has the address rules of built-in modules that choose what they dial.
var allow = map[string][]string{
	"webtunnel": {"@url", "@addr"}, // the address of the bridge line is a placeholder
}

// Allow returns the address rules that a built-in transport has without being granted them
// by the operator; see transport.AddressRule.
func Allow(name string) []string { return allow[name] }

// Authenticates reports whether a built-in transport's client is connected only after an
// answer that the bridge of its arguments alone can give.
func Authenticates(name string) bool { return name == "obfs4" }

// Load returns a built-in module's file. The error is an fs.ErrNotExist if there
// is none of that name.
func Load(name string) ([]byte, error) {
	wasm, err := built.ReadFile("built/" + name + suffix)
	if err != nil {
		return nil, fmt.Errorf("no built-in transport %q: %w", name, fs.ErrNotExist)
	}
	return wasm, nil
}
