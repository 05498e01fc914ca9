package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/transport/testmodules"
)

// started lets a process start its transports once and returns a directory that has the
// records of that, but no compiled code.
func started(t *testing.T, env variables, flags []string) variables {
	t.Helper()
	dir := t.TempDir()
	env = env.with(variables{"TOR_PT_STATE_LOCATION": dir})
	p := launch(t, env, flags...)
	p.ready()
	p.stdin.Close()
	p.wait(endTimeout)
	if err := os.RemoveAll(filepath.Join(dir, "compiled")); err != nil {
		t.Fatal(err)
	}
	return env
}

// isLoaded reports whether a process has loaded a module since started.
func isLoaded(env variables) bool {
	_, err := os.Stat(filepath.Join(env["TOR_PT_STATE_LOCATION"], "compiled"))
	return err == nil
}

// A transport that has started once is loaded when it is used, and works then.
func TestLoadedWhenUsed(t *testing.T) {
	orPort := listen(t)
	for name, env := range map[string]variables{
		"client": clientVariables("t"),
		"server": serverVariables("t", orPort.Addr().String()),
	} {
		t.Run(name, func(t *testing.T) {
			flags := module("t", "posix_v1")
			env := started(t, env, flags)
			p := launch(t, env, flags...)
			address := p.address("t")
			if isLoaded(env) {
				t.Error("it was loaded before anybody used it")
			}
			for range 3 {
				if name == "client" {
					echoThrough(t, address)
				} else {
					echo(t, dial(t, address), accept(t, orPort))
				}
			}
			if !isLoaded(env) {
				t.Error("it was not loaded")
			}
		})
	}
}

// A client that comes while the module is being loaded waits, and one that tor gives up
// meanwhile hinders nobody.
func TestLoadedForMany(t *testing.T) {
	orPort := listen(t)
	flags := modulesFlags("t", "plain_v1")
	env := started(t, serverVariables("t", orPort.Addr().String()), flags)
	p := launch(t, env, flags...)
	dial(t, p.address("t")).Close()
	for range 20 {
		dial(t, p.address("t"))
	}
	for range 20 {
		accept(t, orPort)
	}
}

// If the module has changed unnoticed and does not start any more, its connections fail
// and the log says why.
func TestFailsWhenUsed(t *testing.T) {
	good, err := os.ReadFile(testmodules.Path("plain_v1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]variables{
		"client": clientVariables("t"),
		"server": serverVariables("t", deadAddress(t)),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "t.wasm")
			when := time.Now().Add(-time.Hour)
			write := func(wasm []byte) {
				t.Helper()
				if err := os.WriteFile(file, wasm, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(file, when, when); err != nil {
					t.Fatal(err)
				}
			}
			write(good)
			flags := []string{"-module", "t=" + file}
			env := started(t, env, flags)
			write([]byte(strings.Repeat("x", len(good))))
			p := launch(t, env, flags...)
			if name == "client" {
				if _, code := ask(t, p.address("t"), "127.0.0.1:1", ""); code != replyFailure {
					t.Errorf("reply %d", code)
				}
				p.line(`^STATUS TRANSPORT=t CONNECT=Failed ERRSTR=".*/t\.wasm: compile module`)
				p.line(`^LOG SEVERITY=warning MESSAGE=".*no valid WebAssembly`)
			} else {
				awaitClose(t, dial(t, p.address("t")))
				p.line(`^LOG SEVERITY=error MESSAGE=".*started before does not any more.*no valid WebAssembly`)
			}
			write(good) // and the next connection is served again
			if name == "client" {
				echoThrough(t, p.address("t"))
			} else {
				awaitClose(t, dial(t, p.address("t"))) // tor is not there
				p.line(`^LOG SEVERITY=warning MESSAGE=".*ORPort`)
			}
		})
	}
}

// The end may come before a transport was used.
func TestEndUnused(t *testing.T) {
	flags := module("t", "plain_v1")
	for _, env := range []variables{clientVariables("t"), serverVariables("t", deadAddress(t))} {
		env = started(t, env, flags)
		p := launch(t, env, flags...)
		p.ready()
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		p.wait(endTimeout)
		p.checkStatus(0)
	}
}
