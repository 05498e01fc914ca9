package oneside

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/measure"
)

func options() measure.Options {
	o := measure.QuickOptions()
	o.Size, o.Setups, o.Pings, o.Idle, o.IdleWatch = 1<<20, 3, 10, []int{2}, time.Millisecond
	return o
}

// ask makes a request as the bench command does.
func ask(t *testing.T, open Opener, q Request) Result {
	t.Helper()
	q.Result = filepath.Join(t.TempDir(), "result.json")
	q.Timeout = time.Minute
	q.Options = options()
	argument, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(open, []string{string(argument)}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(q.Result)
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFloorNeedsNoModule(t *testing.T) {
	for _, test := range []string{"up1", "ping", "idle"} {
		if r := ask(t, nil, Request{Test: test, Round: 1}); r.Error != "" || len(r.Sample) == 0 {
			t.Errorf("%s: %+v", test, r)
		}
	}
}

func TestCompile(t *testing.T) {
	module := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(module, []byte("wasm"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	open := func(ctx context.Context, s Setting) (Dialer, error) {
		got = append(got, string(s.Wasm), s.Cache, s.Variant)
		return Direct(ctx, s)
	}
	r := ask(t, open, Request{Module: module, Cache: "c", Variant: "v", Test: CompileTest, Round: 1})
	if r.Error != "" || strings.Join(got, " ") != "wasm c v" {
		t.Fatalf("%+v, opened with %q", r, got)
	}
	merged := MergeCompile(r.Sample, r.Sample)
	for _, m := range Suite(options())[0].Metrics {
		if merged[m.Key] <= 0 {
			t.Errorf("no %s in %v", m.Key, merged)
		}
	}
}

func TestFailuresAreResults(t *testing.T) {
	module := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fail := func(context.Context, Setting) (Dialer, error) { return nil, errors.New("cannot compile") }
	if r := ask(t, fail, Request{Module: module, Test: "up1"}); !strings.Contains(r.Error, "cannot compile") {
		t.Errorf("got %+v", r)
	}
	if r := ask(t, nil, Request{Test: "nonsense"}); !strings.Contains(r.Error, "nonsense") {
		t.Errorf("got %+v", r)
	}
	if err := serve(nil, nil); err == nil {
		t.Error("a missing request was accepted")
	}
	if err := serve(nil, []string{"{"}); err == nil {
		t.Error("a broken request was accepted")
	}
}
