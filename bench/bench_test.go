package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// TestMain lets the relay contestant start this test binary as its hops, as it
// starts the bench command in a real run.
func TestMain(m *testing.M) {
	if os.Getenv(hopEnv) != "" {
		if err := runHop(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A hop built for the race detector would sleep for a second before it exits.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSmoke runs every test on plain TCP and on relays, end to end with tiny
// sizes, and looks at the report.
func TestSmoke(t *testing.T) {
	file := filepath.Join(t.TempDir(), "samples.json")
	var stdout, stderr bytes.Buffer
	err := runPairs(t.Context(), []string{
		"-quick", "-contestants", "tcp,relay1,relay", "-runs", "2", "-size", "2", "-setups", "5", "-pings", "20",
		"-slow", "1", "-idle", "2,4", "-idle-time", "10ms", "-stall", "4", "-json", file,
	}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	t.Logf("time of each test:\n%s", &stderr)
	text := stdout.String()
	for _, want := range []string{"| tcp ", "| relay1 ", "| relay ", "Ratio to relay", "None.", "SHA-256 equal"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		Metrics []struct {
			Key     string                `json:"key"`
			Samples map[string][]*float64 `json:"samples"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal(b, &reports); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 1 {
		t.Fatalf("%d reports, want 1", len(reports))
	}
	samples := make(map[string]map[string][]*float64)
	for _, m := range reports[0].Metrics {
		samples[m.Key] = m.Samples
	}
	for _, key := range []string{"setup_p50", "setup_rate", "ping_p99", "up1", "down1", "upN", "downN", "duplex", "integrity"} {
		for _, c := range []string{"tcp", "relay1", "relay"} {
			if got := samples[key][c]; len(got) != 2 || got[0] == nil || got[1] == nil {
				t.Errorf("%s of %s: %d samples, want 2", key, c, len(got))
			}
		}
	}
	for _, c := range []string{"tcp", "relay1", "relay"} {
		if len(samples["stall_ratio"][c]) != 1 {
			t.Errorf("stall_ratio of %s: %d samples, want 1", c, len(samples["stall_ratio"][c]))
		}
	}
	for _, key := range []string{"start_cold_client", "exit_client", "upN_client_peak", "idle4_client_rss"} {
		if len(samples[key]["relay"]) == 0 || len(samples[key]["tcp"]) != 0 {
			t.Errorf("%s: want samples of relay and none of tcp", key)
		}
	}
}

// TestFailuresAreShown runs a transport that cannot start: the others are
// measured all the same, the report says what failed, and so does the error.
func TestFailuresAreShown(t *testing.T) {
	var stdout, stderr bytes.Buffer
	err := runPairs(t.Context(), []string{
		"-quick", "-contestants", "tcp", "-pt", "broken=/nonexistent/pt|/nonexistent/pt|obfs4",
		"-runs", "2", "-size", "1", "-tests", "startup,up1",
	}, &stdout, &stderr)
	if !errors.Is(err, errFailed) {
		t.Fatalf("error %v, want errFailed", err)
	}
	text := stdout.String()
	if !strings.Contains(text, "**FAILED** 2 of 2") || !strings.Contains(text, "**broken** (startup 1, startup 2") {
		t.Errorf("the failure is not shown:\n%s", text)
	}
}

func TestCommandLineErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-contestants", "nonsense"},
		{"-contestants", "waterproxy"},
		{"-contestants", "waterproxy::each"},
		{"-contestants", "tcp,tcp"},
		{"-contestants", ","},
		{"-contestants", "tcp", "-tests", "nonsense"},
		{"-contestants", "tcp", "-tests", "up1", "-skip", "up1"},
		{"-contestants", "tcp", "-baseline", "relay"},
		{"-contestants", "tcp", "-idle", "5,5"},
		{"-contestants", "tcp", "-runs", "0"},
		{"-contestants", "tcp", "-size", "0"},
		{"-pt", "a=b|c"},
		{"-pt", "a=b|c|t|novalue"},
		{"-socks", "a=b {clientport}|c {serverport}"},
		{"-unknown"},
		{"word"},
	} {
		var out bytes.Buffer
		var usage usageError
		if err := runPairs(t.Context(), args, &out, &out); !errors.As(err, &usage) {
			t.Errorf("%q: got %v, want a usage error", args, err)
		}
	}
}

func TestParsePair(t *testing.T) {
	p, err := parsePair(`mine=./a -x=1|./b|obfs4|cert=x==;iat-mode=1|k=v`)
	if err != nil {
		t.Fatal(err)
	}
	if p.name != "mine" || p.client != "./a -x=1" || p.server != "./b" || p.transport != "obfs4" ||
		p.clientArgs.String() != "cert=x==;iat-mode=1" || p.serverArgs.String() != "k=v" {
		t.Errorf("got %+v", p)
	}
}

func TestInstancesOfAContestant(t *testing.T) {
	for name, want := range map[string]string{
		"waterproxy:plain":      "`./exe`, transport plain",
		"waterproxy:plain:each": "`./exe -module-instances plain=each`, transport plain",
		"waterproxy:plain:1":    "`./exe -module-instances plain=1`, transport plain",
		"waterproxy-web:plain":  "`./exe`, transport plain",
	} {
		c, err := preset(name, "./exe")
		if err != nil {
			t.Fatal(err)
		}
		if c.name != name || !strings.Contains(c.about, "server "+want) || strings.Count(c.about, "plain=") > 2 {
			t.Errorf("%s is %q, run as %q", name, c.name, c.about)
		}
	}
}

// TestFreshRounds: a test whose processes must have done nothing yet gets new ones
// in each round, others do not.
func TestFreshRounds(t *testing.T) {
	for fresh, want := range map[bool]int{true: 3, false: 1} {
		starts := 0
		c := &contestant{name: "a", start: func(context.Context, launch) (*session, error) {
			starts++
			return &session{}, nil
		}}
		origin, err := measure.NewOrigin()
		if err != nil {
			t.Fatal(err)
		}
		r := &runner{
			contestants: []*contestant{c}, origin: origin, state: t.TempDir(),
			progress: newProgress(io.Discard), report: &report.Report{},
		}
		test := measure.Test{Name: "x", Fresh: fresh, Run: func(context.Context, *measure.Path, int) (measure.Sample, error) {
			return nil, nil
		}}
		if err := r.runTest(t.Context(), test, 3); err != nil {
			t.Error(err)
		}
		if starts != want {
			t.Errorf("fresh is %v: started %d times in 3 rounds, want %d", fresh, starts, want)
		}
		if err := origin.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRoundsBeginWithAnotherContestant(t *testing.T) {
	r := &runner{contestants: []*contestant{{name: "a"}, {name: "b"}, {name: "c"}}}
	var got []string
	for round := 1; round <= 4; round++ {
		for _, c := range r.order(round) {
			got = append(got, c.name)
		}
	}
	if text := strings.Join(got, ""); text != "abcbcacababc" {
		t.Errorf("order %s", text)
	}
}

func TestPick(t *testing.T) {
	f := sizeFlags{tests: "startup,ping,up1", skip: "up1"}
	tests, startup, err := f.pick(measure.Suite(measure.DefaultOptions()), true)
	if err != nil || !startup || len(tests) != 1 || tests[0].Name != "ping" {
		t.Errorf("got %d tests, start-up %v, %v", len(tests), startup, err)
	}
}
