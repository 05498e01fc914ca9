package self

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wasm := testmodules.Load(t, "plain_v1")
	good := write("good.wasm", wasm)
	settings := write("good.toml", []byte("state = true"))
	p := run(t, nil, "check", dir, good, settings)
	p.CheckStatus(0)
	text := strings.Join(p.Stdout.All(), "\n")
	for _, want := range []string{dir + "/good: good, as client and server", good + ": a good module", settings + ": good settings"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	write("bad.wasm", []byte("x"))
	write("trap.wasm", testmodules.Load(t, "evil_trap_init_v1"))
	write("wrong.wasm", wasm)
	write("wrong.toml", []byte("\nlimits.memory = '1'\n"))
	write("missing.wasm", wasm)
	write("missing.toml", []byte("config = 'nowhere.cfg'"))
	write("orphan.toml", nil)
	p = run(t, nil, "check", dir)
	p.CheckStatus(1)
	if said := goodLines(p); len(said) != 1 {
		t.Errorf("what is good: %q", said)
	}
	text = strings.Join(p.Stderr.All(), "\n")
	for _, want := range []string{
		dir + "/bad.wasm: compile module", dir + "/trap: ", dir + "/wrong.toml:2: limits.memory: ", dir + "/missing: read the module's configuration",
		dir + "/orphan.toml is not used: there is no transport orphan",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

// goodLines returns what `waterproxy check` says is good. The last line is about the system.
func goodLines(p *process) []string {
	p.Line("^second wall on this system: .+$")
	return slices.DeleteFunc(p.Stdout.All(), func(line string) bool { return strings.HasPrefix(line, "second wall") })
}
