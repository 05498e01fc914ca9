package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCustomHelper(t *testing.T) {
	for spec, want := range map[string]helper{
		"old=/tmp/self":               {name: "old", executable: "/tmp/self"},
		"old=/tmp/self,RuntimeDialer": {name: "old", executable: "/tmp/self", variant: "RuntimeDialer"},
	} {
		got, err := custom(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		if got.name != want.name || got.executable != filepath.FromSlash(want.executable) || got.variant != want.variant {
			t.Errorf("%s: got %+v", spec, got)
		}
	}
	var usage usageError
	for _, spec := range []string{"", "old", "=file", "old=", "old=,v"} {
		if _, err := custom(spec); !errors.As(err, &usage) {
			t.Errorf("%q: got %v, want a usage error", spec, err)
		}
	}
}

// TestRuntimeOfTCP runs a test of the runtime comparison, in a helper that has to
// be built for it.
func TestRuntimeOfTCP(t *testing.T) {
	var stdout, stderr bytes.Buffer
	module := filepath.Join("..", "go.mod") // which the floor does not look at
	err := runRuntimes(t.Context(), []string{
		"-quick", "-contestants", "tcp", "-modules", module, "-tests", "setup,stall", "-setups", "5", "-stall", "4", "-runs", "2",
	}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	for _, want := range []string{"dial, beyond a TCP dial", "4 connections, 16 at once", "None."} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &stdout)
		}
	}
}

// TestRuntimeOfVariants has every way to dial carry bytes.
func TestRuntimeOfVariants(t *testing.T) {
	module := filepath.Join("..", "modules", "built", "plain.wasm")
	if _, err := os.Stat(module); err != nil {
		t.Fatal("make modules first: ", err)
	}
	var stdout, stderr bytes.Buffer
	err := runRuntimes(t.Context(), []string{
		"-quick", "-contestants", "RuntimeConn,RuntimeConn:splice,RuntimeDialer,RuntimeDialer:splice",
		"-modules", module, "-tests", "integrity,close", "-runs", "1",
	}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	if got := strings.Count(stdout.String(), "| 1 of 1"); got != 4 {
		t.Errorf("%d contestants have passed, want 4:\n%s", got, &stdout)
	}
}
