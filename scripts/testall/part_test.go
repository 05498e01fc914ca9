package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources are packages that fail, each in a way of its own.
var sources = map[string]string{
	"good":    `func TestGood(t *testing.T) { t.Log("unwanted") }`,
	"bad":     `func TestBad(t *testing.T) { t.Run("one", func(t *testing.T) { t.Error("the reason") }); t.Run("two", func(*testing.T) {}) }`,
	"unbuilt": `func TestUnbuilt(t *testing.T) { undefined() }`,
	"vetted":  `func TestVetted(t *testing.T) { t.Errorf("%d", "text") }`,
	"panics":  `func TestPanics(t *testing.T) { panic("out of tea") }`,
	"exits":   `func TestMain(m *testing.M) { m.Run(); println("left open"); os.Exit(3) }; func TestExits(t *testing.T) {}`,
	"hangs":   `func TestHangs(t *testing.T) { t.Log("hanging"); select {} }`,
	"killed":  `func TestKilled(t *testing.T) { p, _ := os.FindProcess(os.Getpid()); p.Kill(); select {} }`,
	"races":   `func TestRaces(t *testing.T) { t.Log("WARNING: DATA RACE"); t.Log("here") }; func TestMain(m *testing.M) { m.Run(); os.Exit(1) }`,
	"skips":   `func TestSkips(t *testing.T) { t.Skip("not here") }`,
}

// runGoTest runs go test -json on packages of that source.
func runGoTest(t *testing.T, names ...string) (p *part, shown string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module m\n"}
	for _, name := range names {
		files[name+"/x_test.go"] = "package x\nimport (\"os\"; \"testing\")\nvar _ = os.Args\n" + sources[name] + "\n"
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"test", "-json"}
	if slices.Contains(names, "hangs") {
		args = append(args, "-timeout=3s")
	}
	cmd := exec.Command("go", append(args, "./...")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var out bytes.Buffer
	p = newPart("x", &out)
	p.err = p.run(cmd)
	return p, out.String()
}

// Each way to fail is a line of the summary, and its reason is shown.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		packages string
		want     []string // of the summary, sorted
		shown    []string
	}{
		{"good", nil, []string{"ok  \tm/good"}},
		{"good bad", []string{"m/bad: TestBad", "m/bad: TestBad/one"}, []string{"the reason", "ok  \tm/good"}},
		{"good unbuilt", []string{"m/unbuilt: it does not build"}, []string{"undefined: undefined", "ok  \tm/good"}},
		{"vetted", []string{"m/vetted: it does not build"}, []string{"wrong type string"}},
		{"panics", []string{"m/panics: TestPanics"}, []string{"panic: out of tea", "goroutine"}},
		{"exits", []string{"m/exits: left open"}, []string{"left open"}},
		{"hangs", []string{"m/hangs: TestHangs (it did not end)", "m/hangs: panic: test timed out after 3s"}, []string{"hanging", "test timed out"}},
		{"killed", []string{"m/killed: TestKilled (it did not end)", "m/killed: signal: killed"}, []string{"signal: killed"}},
		{"races", []string{"m/races: a data race was reported during TestRaces"}, []string{"here"}},
		{"skips", []string{"m/skips: TestSkips was skipped"}, nil},
	} {
		p, shown := runGoTest(t, strings.Fields(test.packages)...)
		got := p.report()
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: the report is %q, want %q", test.packages, got, test.want)
		}
		if fails := !slices.Contains([]string{"good", "skips"}, test.packages); p.failed() != fails {
			t.Errorf("%s: failed: %v", test.packages, p.failed())
		}
		for _, want := range test.shown {
			if !strings.Contains(shown, want) {
				t.Errorf("%s: %q is not shown:\n%s", test.packages, want, shown)
			}
		}
		if strings.Contains(shown, "unwanted") || strings.Contains(shown, `"Action"`) {
			t.Errorf("%s: it shows what nobody needs:\n%s", test.packages, shown)
		}
	}
}

// What is no test fails with the last that it wrote.
func TestCommandFails(t *testing.T) {
	var out bytes.Buffer
	p := newPart("vet", &out)
	p.err = p.run(exec.Command("sh", "-c", `seq 100; echo "{no event}"; echo wrong >&2; exit 2`))
	got := p.report()
	if !p.failed() || len(got) != shownLines+1 || got[shownLines-1] != "wrong" || got[shownLines] != "exit status 2" {
		t.Errorf("failed: %v, %q", p.failed(), got)
	}
	if !strings.HasPrefix(out.String(), "1\n2\n") || !strings.HasSuffix(out.String(), "{no event}\nwrong\n") {
		t.Errorf("shown: %q", out.String())
	}
	missing := newPart("x", &out)
	if missing.err = missing.run(exec.Command("/nonexistent/make")); !missing.failed() {
		t.Error("a command that does not start has passed")
	}
	out.Reset()
	if summarize(&out, []*part{newPart("unit", nil), p}) || !strings.Contains(out.String(), "passed  unit") || !strings.Contains(out.String(), "FAILED  vet") {
		t.Errorf("the summary is %q", out.String())
	}
	if !summarize(&out, []*part{newPart("unit", nil)}) {
		t.Error("nothing has failed")
	}
}

// Chains of a stage run beside each other, and the targets of one in turn.
func TestStage(t *testing.T) {
	dir := t.TempDir()
	scripts := map[string]string{
		"first":  "echo 1 >>order",
		"second": "echo 2 >>order; until [ -e beside ]; do sleep 0.01; done; exit 3",
		"beside": "until [ -s order ]; do sleep 0.01; done; touch beside",
	}
	var out bytes.Buffer
	parts := runStage("first,second+beside", &together{w: &out}, func(target string) *exec.Cmd {
		c := exec.Command("sh", "-c", scripts[target])
		c.Dir = dir
		return c
	})
	for i, want := range []struct {
		name   string
		failed bool
	}{{"first", false}, {"second", true}, {"beside", false}} {
		if p := parts[i]; len(parts) != 3 || p.name != want.name || p.failed() != want.failed || p.took == 0 {
			t.Errorf("part %d of %d is %s, failed: %v, %v; want %v", i, len(parts), p.name, p.failed(), p.err, want)
		}
	}
	if order, err := os.ReadFile(filepath.Join(dir, "order")); err != nil || string(order) != "1\n2\n" {
		t.Errorf("the order is %q, %v", order, err)
	}
	if !strings.Contains(out.String(), "== make beside\n") {
		t.Errorf("shown: %q", out.String())
	}
}
