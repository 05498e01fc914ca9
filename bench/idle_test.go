package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/bench/internal/holder"
)

// idleReport runs the comparison with tiny sizes.
func idleReport(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"-idle", "2,6", "-idle-time", "10ms", "-runs", "2", "-v"}, args...)
	if err := runIdle(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	return stdout.String()
}

func checkIdleReport(t *testing.T, text string) {
	t.Helper()
	for _, want := range []string{
		"2 idle connections: RSS per connection, dialer", "6 idle connections: RSS per connection, listener",
		"OS threads, listener", "CPU while idle, dialer", "n=2)", "None.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestIdleOfTCP(t *testing.T) {
	checkIdleReport(t, idleReport(t, "-contestants", "tcp"))
}

func TestIdleOfRuntimeDialer(t *testing.T) {
	module := filepath.Join("..", "modules", "built", "plain.wasm")
	if _, err := os.Stat(module); err != nil {
		t.Fatal("make modules first: ", err)
	}
	text := idleReport(t, "-contestants", "RuntimeDialer", "-module", module)
	checkIdleReport(t, text)
}

// TestHoldersThatFail: neither one that cannot start nor one that dies may leave
// the harness waiting.
func TestHoldersThatFail(t *testing.T) {
	shop, err := newWorkshop("")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shop.close(); err != nil {
			t.Error(err)
		}
	}()
	h, err := shop.helper(t.Context(), floorName)
	if err != nil {
		t.Fatal(err)
	}
	_, err = launchHolder(t.Context(), h.executable, holder.Request{Module: "/nonexistent"}, exitLimit, nil)
	if err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("a missing module: got %v", err)
	}
	listener, err := launchHolder(t.Context(), h.executable, holder.Request{}, exitLimit, nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := launchHolder(t.Context(), h.executable, holder.Request{Dial: listener.address}, exitLimit, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.end(); err != nil {
		t.Fatal(err)
	}
	if err := askBoth(t.Context(), dialer, listener, holder.Open+" 1", exitLimit); err == nil {
		t.Error("a listener that is gone has opened a connection")
	}
	if err := dialer.end(); err != nil {
		t.Error(err)
	}
}

func TestIdleCommandLineErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-contestants", "water"},
		{"-contestants", "RuntimeDialer:splice"},
		{"-contestants", ","},
		{"-contestants", "tcp,tcp"},
		{"-contestants", "tcp", "-baseline", "RuntimeDialer"},
		{"-idle", "0"},
		{"-idle", "many"},
		{"-runs", "0"},
		{"word"},
	} {
		var out bytes.Buffer
		var usage usageError
		if err := runIdle(t.Context(), args, &out, &out); !errors.As(err, &usage) {
			t.Errorf("%q: got %v, want a usage error", args, err)
		}
	}
}
