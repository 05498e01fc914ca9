package testmodules

import (
	"bytes"
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed modules.list
var list string

//go:embed README.md
var readme string

// Every module of the list is in the README's table, and if anything is built,
// then all of it is.
func TestListed(t *testing.T) {
	built, _ := filepath.Glob(Path("*"))
	for line := range strings.Lines(list) {
		field := strings.Fields(line)
		if len(field) == 0 || strings.HasPrefix(field[0], "#") {
			continue
		}
		name := field[0]
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("README.md does not mention %s", name)
		}
		if _, err := os.Stat(filepath.Join(dir(), "src", filepath.FromSlash(field[1]))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(built) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if !bytes.HasPrefix(Load(t, name), []byte("\x00asm\x01\x00\x00\x00")) {
				t.Error("not a core WebAssembly module")
			}
		})
	}
}
