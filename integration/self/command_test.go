package self

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/internal/program"
	"waterproxy/modules"
	"waterproxy/transport/testmodules"
)

// By hand it says what it is, in two lines, and where to go from there.
func TestByHand(t *testing.T) {
	p := run(t, nil)
	p.CheckStatus(2)
	if said := p.Stdout.All(); len(said) > 0 {
		t.Errorf("standard output has %q", said)
	}
	said := p.Stderr.All()
	if len(said) != 2 || !strings.Contains(strings.Join(said, " "), "waterproxy demo") {
		t.Errorf("standard error has %q, want two lines that mention waterproxy demo", said)
	}
}

func TestCommandLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.wasm")
	for _, test := range []struct {
		args           []string
		status         int
		stdout, stderr string // what must be in there; "" means that nothing is
	}{
		{[]string{"version"}, 0, "waterproxy " + program.Version + " (go1.", ""},
		{[]string{"-h"}, 0, "", "inspect"},
		{[]string{"inspect", "-h"}, 0, "", "FILE.wasm"},
		{[]string{"inspect"}, 2, "", "one module file"},
		{[]string{"inspect", "a", "b"}, 2, "", "a bridge line for it"},
		{[]string{"inspect", "plain", "plain 192.0.2.1:1 url=https://example.com/a addr=b"}, 0, "example.com:443, if it has the rule @url", ""},
		{[]string{"inspect", missing}, 1, "", "no such file"},
		{[]string{"inspect", "-colour", "x"}, 2, "", "-colour"},
		{[]string{"examine"}, 2, "", "the name of one transport"},
		{[]string{"examine", "a", "b"}, 2, "", "the name of one transport"},
		{[]string{"examine", "unknown"}, 1, "", "no such transport: unknown"},
		{[]string{"examine", "plain", "-fail-on", "blocked,colour"}, 2, "", `"colour" is nothing to fail on`},
		{[]string{"examine", "-n", "0", "plain"}, 2, "", "-n: 0"},
		{[]string{"examine", "-probe-time", "11m", "plain"}, 2, "", "-probe-time"},
		{[]string{"examine", "-client", "x", "plain"}, 2, "", "go together"},
		{[]string{"examine", "-transport", "x", "plain"}, 2, "", "-transport is for"},
		{[]string{"demo", "x"}, 1, "", "takes no arguments"},
		{[]string{"demo", "-transport", "unknown"}, 1, "", "no such transport: unknown"},
		{[]string{"colour"}, 2, "", `no subcommand "colour"`},
		{[]string{"-colour"}, 2, "", "-colour"},
		{[]string{"inspect", testmodules.Path("plain_v1")}, 0, "roles", ""},
		{[]string{"inspect", testmodules.Path("bad_text")}, 1, "SHA-256", "can't run here"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			p := run(t, nil, test.args...)
			p.CheckStatus(test.status)
			for _, out := range []struct {
				name, want string
				lines      []string
			}{{"output", test.stdout, p.Stdout.All()}, {"error", test.stderr, p.Stderr.All()}} {
				text := strings.Join(out.lines, "\n")
				if out.want == "" && text != "" || !strings.Contains(text, out.want) {
					t.Errorf("standard %s has %q, want %q", out.name, text, out.want)
				}
			}
		})
	}
}

// A report names what others need to see the same: the built-in modules.
func TestVersionNamesModules(t *testing.T) {
	text := strings.Join(run(t, nil, "version").Stdout.All(), "\n")
	names := modules.Names()
	if len(names) == 0 {
		t.Error("there is no built-in module")
	}
	for _, name := range names {
		wasm, err := modules.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("transport %s, %d bytes, SHA-256 %s", name, len(wasm), digest(wasm)); !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

func TestInspect(t *testing.T) {
	for name, want := range map[string][]string{
		"plain_v0":          {"v0", "half-close", "water_dial|host_dial", "memory"},
		"plain_v1":          {"v1", "by the host", "one connection    client, fixed client, server, relay\n", "many connections  none"},
		"posix_v1":          {"v1", "by the module itself"},
		"plain_dialonly_v1": {"no server: ", "no relay: "},
		"evil_stdio_pt_v1":  {"v1"},
		"threads":           {"  wanted; an instance may have 16 besides", "wasi.thread-spawn\n", "0.25 MiB at the start, 1 MiB at most"},
		"workers_v1":        {"  wanted; an instance may have 16"},
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, nil, "inspect", testmodules.Path(name))
			p.CheckStatus(0)
			text := strings.Join(p.Stdout.All(), "\n")
			wasm, err := os.ReadFile(testmodules.Path(name))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "single instance") {
				t.Errorf("the report says that there must be a single instance:\n%s", text)
			}
			for _, want := range append(want, digest(wasm), fmt.Sprintf("%d bytes", len(wasm))) {
				found := false
				for alternative := range strings.SplitSeq(want, "|") {
					found = found || strings.Contains(text, alternative)
				}
				if !found {
					t.Errorf("the report lacks %q:\n%s", want, text)
				}
			}
		})
	}
}
