package self

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms says which packages of the project each package may import: names of packages
// below the main folder, separated by spaces. A name that ends in /... stands for all
// packages below it. Nothing points back up, and what is shipped imports no test.
// CONTRIBUTING.md has the drawing.
var rooms = map[string]string{
	"": "internal/command",

	"internal/command": "client internal/bridgeline internal/catalog internal/demo internal/display internal/examine internal/managed internal/meter internal/mirror internal/program " +
		"internal/ptlog internal/publish internal/release internal/repository internal/service internal/settings internal/transports " +
		"internal/updater internal/userfile internal/walls internal/web internal/webfront modules server transport",
	"internal/managed": "client internal/outbound internal/program internal/ptlog internal/service internal/transports internal/walls server transport",
	"internal/service": "internal/catalog internal/meter internal/mirror internal/outbound internal/program internal/ptlog internal/repository internal/statedir " +
		"internal/settings internal/transports internal/updater internal/userfile internal/walls transport",

	"client": "internal/acceptloop internal/crowd internal/meter internal/ptlog transport",
	"server": "internal/meter internal/ptlog internal/userfile transport",

	"internal/transports": "internal/catalog internal/meter internal/settings internal/statedir internal/userfile internal/walls internal/web transport",
	"internal/web":        "internal/crowd internal/program internal/settings internal/statedir internal/userfile internal/walls transport",
	"internal/catalog":    "internal/program internal/ptargs internal/repository internal/settings internal/statedir internal/userfile modules transport",
	"internal/settings":   "internal/userfile transport",
	"internal/bridgeline": "internal/ptargs transport",
	"internal/meter":      "internal/crowd transport",
	"internal/outbound":   "transport",
	"internal/ptlog":      "transport",

	// The road of new modules: internal/updater looks, internal/publish is the other end.
	"internal/updater":    "internal/mirror internal/outbound internal/program internal/repository internal/rlimit",
	"internal/repository": "internal/mirror internal/release internal/statedir internal/userfile",
	"internal/publish":    "internal/release internal/userfile",
	"internal/mirror":     "internal/userfile",
	"internal/release":    "internal/ptargs",

	"transport":                       "internal/acceptloop internal/ptargs internal/records internal/userfile transport/internal/compilechild transport/internal/guest transport/internal/stream",
	"transport/internal/guest":        "internal/elligator2 internal/records transport/internal/codecache transport/internal/compilechild transport/internal/linmem transport/internal/stream transport/internal/wasmfile",
	"transport/internal/codecache":    "internal/statedir",
	"transport/internal/compilechild": "internal/program internal/rlimit",
	"transport/internal/linmem":       "",
	"transport/internal/stream":       "",
	"transport/internal/wasmfile":     "",

	"internal/acceptloop":  "",
	"internal/crowd":       "",
	"internal/clienthello": "",
	"internal/display":     "",
	"internal/elligator2":  "",
	"internal/fingerprint": "internal/clienthello",
	"internal/program":     "",
	"internal/ptargs":      "",
	"internal/records":     "",
	"internal/rlimit":      "",
	"internal/measure":     "",
	"internal/statedir":    "",
	"internal/userfile":    "",
	"internal/walls":       "",

	"internal/demo":   "internal/display internal/meter internal/ptargs internal/ptproc internal/tornet",
	"internal/tornet": "internal/ptproc",
	"internal/ptproc": "internal/ptargs",

	// How a transport looks from outside: internal/examine runs it, and asks the others.
	"internal/examine":        "internal/examine/... internal/fingerprint internal/measure internal/ptargs internal/ptproc",
	"internal/examine/record": "",
	"internal/examine/rules":  "internal/examine/record",
	"internal/examine/probe":  "",

	"watm":                "internal/ptargs internal/records",
	"watm/hostcrypto":     "internal/elligator2",
	"watm/singleinstance": "",
	"modules":             "",
	"modules/...":         "internal/clienthello modules/internal/... watm watm/hostcrypto watm/singleinstance",

	// These are for tests, figures and development.
	"internal/pttest":              "internal/program internal/ptproc",
	"internal/webfront":            "",
	"internal/repotest":            "internal/mirror internal/program internal/publish internal/release internal/repository",
	"bench":                        "bench/internal/... internal/measure internal/ptargs internal/ptproc internal/webfront transport",
	"bench/...":                    "bench/internal/... internal/measure transport",
	"scripts/...":                  "internal/examine internal/webfront",
	"transport/testmodules":        "",
	"transport/testmodules/go/...": "watm internal/ptargs",
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	short := func(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, "waterproxy"), "/") }
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := short(words[0])
		if strings.HasPrefix(name, "integration") { // tests alone
			continue
		}
		allowed, ok := room(name)
		if !ok {
			t.Errorf("%s has no place in the table", name)
			continue
		}
		for _, path := range words[1:] {
			if !strings.HasPrefix(path, "waterproxy") {
				continue
			}
			if used := short(path); !slices.ContainsFunc(strings.Fields(allowed), func(may string) bool { return matchesRoom(may, used) }) {
				t.Errorf("%s must not import %s", words[0], path)
			}
		}
	}
}

// room returns the entry of a package.
func room(name string) (allowed string, ok bool) {
	if allowed, ok := rooms[name]; ok {
		return allowed, true
	}
	for pattern, allowed := range rooms {
		if matchesRoom(pattern, name) {
			return allowed, true
		}
	}
	return "", false
}

func matchesRoom(pattern, name string) bool {
	prefix, below := strings.CutSuffix(pattern, "...")
	return pattern == name || below && strings.HasPrefix(name, prefix)
}
