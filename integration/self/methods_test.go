package self

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// unusable are modules that don't start, with what has to be in the reason.
var unusable = map[string]string{
	"bad_empty":               ".",
	"bad_text":                ".",
	"bad_header_only":         ".",
	"bad_truncated":           ".",
	"bad_component":           ".",
	"bad_body":                ".",
	"evil_none":               ".",
	"evil_noroles_v0":         ".",
	"evil_noroles_v1":         ".",
	"evil_noinit_v1":          ".",
	"evil_init_void_v1":       ".",
	"evil_import_env_v1":      ".",
	"evil_import_memory_v1":   ".",
	"evil_huge_memory_v1":     "memory",
	"evil_trap_initialize_v1": "unreachable|trap",
	"evil_trap_init_v0":       "unreachable|trap",
	"evil_trap_init_v1":       "unreachable|trap",
	"evil_start_exit3_v1":     "3",
	"evil_init_eperm_v1":      ".",
	"evil_init_minint_v1":     ".",
}

// A module that can't run is an error for its transport alone: unknown names are
// ignored, and the others come up and work.
func TestMethodErrors(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "mödule\nSMETHODS DONE")
	// One function with 2^32-1 locals, for which no compiler has memory.
	bomb := filepath.Join(dir, "bomb.wasm")
	if err := os.WriteFile(bomb, []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := slices.Concat(
		module("first", "plain_v1"),
		[]string{"-module", "bomb=" + bomb},
		[]string{"-module", "missing=" + filepath.Join(dir, "missing.wasm")},
		[]string{"-module", "directory=" + dir},
		[]string{"-module", "odd=" + odd},
		module("unconfigured", "plain_v1"),
		[]string{"-module-config", "unconfigured=" + filepath.Join(dir, "missing.cfg")},
		module("otherrole", "plain_relayonly_v1"),
		module("last", "posix_v1"),
	)
	reasons := map[string]string{
		"bomb":         "4294967295 locals in one function",
		"missing":      "no such file",
		"directory":    "is a directory",
		"odd":          "no such file|m..?dule",
		"unconfigured": "configuration.*no such file",
		"otherrole":    "relay|client|server",
	}
	for name, reason := range unusable {
		flags = append(flags, module(name, name)...)
		reasons[name] = reason
	}
	names := slices.Concat([]string{"first", "unknown", "*"}, slices.Sorted(maps.Keys(reasons)), []string{"not_there", "last"})

	orPort := pttest.Listen(t)
	client := clientVariables(strings.Join(names, ","))
	server := serverVariables(strings.Join(names, ","), orPort.Addr().String())
	for keyword, env := range map[string]ptproc.Variables{"CMETHOD": client, "SMETHOD": server} {
		t.Run(keyword, func(t *testing.T) {
			p := launch(t, env, flags...)
			var good []string
			failed := map[string]string{}
			for _, line := range p.ready() {
				word := strings.SplitN(line, " ", 3)
				switch word[0] {
				case keyword:
					good = append(good, word[1])
				case keyword + "-ERROR":
					if _, twice := failed[word[1]]; twice {
						t.Errorf("two errors for %s", word[1])
					}
					failed[word[1]] = word[2]
				}
			}
			if want := []string{"first", "last"}; !slices.Equal(good, want) {
				t.Errorf("offered are %q, want %q", good, want)
			}
			for name, reason := range reasons {
				if !regexp.MustCompile(reason).MatchString(failed[name]) {
					t.Errorf("%s: the reason is %q, want one with %q", name, failed[name], reason)
				}
				delete(failed, name)
			}
			if len(failed) > 0 {
				t.Errorf("errors for others: %q", failed)
			}
			for _, name := range good {
				if keyword == "CMETHOD" {
					echoThrough(t, p.Address(name))
				} else {
					pttest.Echo(t, pttest.Dial(t, p.Address(name)), pttest.Accept(t, orPort))
				}
			}
		})
	}
}

// With -no-host-crypto a module that uses the host's cryptography is an error for its
// transport alone, in a process that has started it before, too.
func TestNoHostCrypto(t *testing.T) {
	env := clientVariables("obfs4,plain").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": t.TempDir()})
	for _, flags := range [][]string{nil, {"-no-host-crypto"}} {
		p := launch(t, env, flags...)
		said := strings.Join(p.ready(), "\n")
		refused := strings.Contains(said, "CMETHOD-ERROR obfs4") && strings.Contains(said, "the host's cryptography, which is switched off")
		if refused != (flags != nil) || !strings.Contains(said, "CMETHOD plain") {
			t.Errorf("with %q it said %s", flags, said)
		}
		p.CloseStdin()
		p.Wait(pttest.EndLimit)
	}
}

// A port that is taken is an error for its transport alone.
func TestPortTaken(t *testing.T) {
	taken := pttest.Listen(t)
	orPort := pttest.Listen(t)
	p := launch(t, serverVariables("a,b", orPort.Addr().String()).With(ptproc.Variables{
		"TOR_PT_SERVER_BINDADDR": "a-" + taken.Addr().String() + ",b-127.0.0.1:0",
	}), modulesFlags("a", "plain_v1", "b", "plain_v1")...)
	pttest.Echo(t, pttest.Dial(t, p.Address("b")), pttest.Accept(t, orPort))
	p.Line(`^SMETHOD-ERROR a .*address already in use`)
}

// What a module prints is a matter for the log, whatever it looks like and
// however much it is.
func TestModulePrints(t *testing.T) {
	names := "pt0,pt1,outlines,outline,errlines,errline,good"
	flags := append(modulesFlags(
		"pt0", "evil_stdio_pt_v0", "pt1", "evil_stdio_pt_v1",
		"outlines", "evil_stdout_lines_v1", "outline", "evil_stdout_line_v1",
		"errlines", "evil_stderr_lines_v1", "errline", "evil_stderr_line_v1", "good", "posix_v1",
	), "-log-level", "debug")
	orPort := pttest.Listen(t)
	for keyword, env := range map[string]ptproc.Variables{
		"CMETHOD": clientVariables(names),
		"SMETHOD": serverVariables(names, orPort.Addr().String()),
	} {
		t.Run(keyword, func(t *testing.T) {
			p := launch(t, env, flags...)
			var offered []string
			for _, line := range p.ready() {
				if rest, ok := strings.CutPrefix(line, keyword+" "); ok {
					name, _, _ := strings.Cut(rest, " ")
					offered = append(offered, name)
				}
			}
			if got := strings.Join(offered, ","); got != names {
				t.Errorf("offered are %s, want %s", got, names)
			}
			// A connection of each module, all at once, and one that works beside
			// them.
			target := pttest.Listen(t)
			for _, name := range offered[:len(offered)-1] {
				if keyword == "CMETHOD" {
					go pttest.Negotiate(pttest.Dial(t, p.Address(name)), target.Addr().String(), "") // its outcome is its module's affair
				} else {
					pttest.Dial(t, p.Address(name))
				}
			}
			p.Line(`^LOG SEVERITY=debug MESSAGE=".*transport=outlines stream=stdout`)
			p.Line(`^LOG SEVERITY=debug MESSAGE=".*transport=errlines stream=stderr`)
			p.Line(`^LOG SEVERITY=debug MESSAGE=".*transport=pt1 stream=stdout line=.042CMETHOD evil socks5 \[scrubbed\]`)
			if keyword == "CMETHOD" {
				own := pttest.Listen(t)
				c := pttest.Connect(t, p.Address("good"), own.Addr().String())
				pttest.Echo(t, c, pttest.Accept(t, own))
			}
			p.CloseStdin()
			p.Wait(pttest.EndLimit)
			for _, line := range p.Stdout.All() {
				if len(line) > 16<<10 {
					t.Errorf("a line of %d bytes was written", len(line))
				}
				if keyword, rest, _ := strings.Cut(line, " "); keyword != "LOG" && strings.HasPrefix(rest, "evil") {
					t.Errorf("a module got %q through", line)
				}
			}
		})
	}
}

// By default what modules print is not even logged.
func TestModulePrintsQuietly(t *testing.T) {
	p := launch(t, clientVariables("pt1"), module("pt1", "evil_stdio_pt_v1")...)
	echoThrough(t, p.Address("pt1"))
	for _, line := range p.Stdout.All() {
		if strings.Contains(line, "evil") {
			t.Errorf("standard output has %q", line)
		}
	}
}

// A file given by the user stands in for the built-in module of that name.
func TestBuiltInReplaced(t *testing.T) {
	p := launch(t, clientVariables("plain"), "-module", "plain="+testmodules.Path("evil_trap_init_v1"))
	p.ready()
	p.Line(`^CMETHOD-ERROR plain `)
}

// A module gets the configuration that the user gave for it.
func TestModuleConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("\x01"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, abi := range []string{"v0", "v1"} {
		flags := append(module("x", "xor_"+abi), "-module-config", "x="+file)
		p := launch(t, clientVariables("x"), flags...)
		l := pttest.Listen(t)
		near := pttest.Connect(t, p.Address("x"), l.Addr().String())
		far := pttest.Accept(t, l)
		if err := pttest.Exchange(crossed{near, far}, []byte("abc"), []byte("`cb")); err != nil {
			t.Errorf("%s: %v", abi, err)
		}
	}
}
