package self

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// started lets a process start its transports once and returns a directory that has the
// records of that, but no compiled code.
func started(t *testing.T, env ptproc.Variables, flags []string) ptproc.Variables {
	t.Helper()
	dir := t.TempDir()
	env = env.With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir})
	p := launch(t, env, flags...)
	p.ready()
	p.CloseStdin()
	p.Wait(pttest.EndLimit)
	if err := os.RemoveAll(filepath.Join(dir, "compiled")); err != nil {
		t.Fatal(err)
	}
	return env
}

// isLoaded reports whether a process has loaded a module since started.
func isLoaded(env ptproc.Variables) bool {
	_, err := os.Stat(filepath.Join(env["TOR_PT_STATE_LOCATION"], "compiled"))
	return err == nil
}

// countCompiled returns how many modules processes have compiled since started.
func countCompiled(env ptproc.Variables) int {
	files, _ := filepath.Glob(filepath.Join(env["TOR_PT_STATE_LOCATION"], "compiled", "*-*-*")) // the pattern is right
	return len(slices.DeleteFunc(files, func(name string) bool { return strings.Contains(name, "prepared") }))
}

// Of several transports that a client is asked for, and that have started once, each is
// loaded when it is used, and works then.
func TestLoadedWhenUsed(t *testing.T) {
	flags := append(module("t", "posix_v1"), module("other", "posix_v1")...)
	env := started(t, clientVariables("t,other"), flags)
	p := launch(t, env, flags...)
	address := p.Address("t")
	if isLoaded(env) {
		t.Error("it was loaded before anybody used it")
	}
	for range 3 {
		echoThrough(t, address)
	}
	if !isLoaded(env) {
		t.Error("it was not loaded")
	}
}

// A server's transports that have started once are loaded after tor has been told of
// them, without a connection, and so is a client's if it is the only one. They work then.
func TestLoadedAhead(t *testing.T) {
	orPort := pttest.Listen(t)
	for name, env := range map[string]ptproc.Variables{
		"client": clientVariables("t"),
		"server": serverVariables("t,other", orPort.Addr().String()),
	} {
		t.Run(name, func(t *testing.T) {
			flags := append(module("t", "posix_v1"), module("other", "plain_v1")...)
			env := started(t, env, flags)
			p := launch(t, env, flags...)
			p.ready()
			want := strings.Count(env["TOR_PT_SERVER_TRANSPORTS"], ",") + 1
			for end := time.Now().Add(pttest.EndLimit); countCompiled(env) < want; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d of %d modules were loaded", countCompiled(env), want)
				}
			}
			for range 3 {
				if name == "client" {
					echoThrough(t, p.Address("t"))
				} else {
					pttest.Echo(t, pttest.Dial(t, p.Address("t")), pttest.Accept(t, orPort))
				}
			}
		})
	}
}

// A client that comes while the module is being loaded waits, and one that tor gives up
// meanwhile hinders nobody.
func TestLoadedForMany(t *testing.T) {
	orPort := pttest.Listen(t)
	flags := modulesFlags("t", "plain_v1")
	env := started(t, serverVariables("t", orPort.Addr().String()), flags)
	p := launch(t, env, flags...)
	pttest.Dial(t, p.Address("t")).Close()
	for range 20 {
		pttest.Dial(t, p.Address("t"))
	}
	for range 20 {
		pttest.Accept(t, orPort)
	}
}

// If the module has changed unnoticed and does not start any more, its connections fail
// and the log says why.
func TestFailsWhenUsed(t *testing.T) {
	good, err := os.ReadFile(testmodules.Path("plain_v1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]ptproc.Variables{
		"client": clientVariables("t"),
		"server": serverVariables("t", pttest.DeadAddress(t)),
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
				if _, code := pttest.Ask(t, p.Address("t"), "127.0.0.1:1", ""); code != pttest.ReplyFailure {
					t.Errorf("reply %d", code)
				}
				p.Line(`^STATUS TRANSPORT=t CONNECT=Failed ERRSTR=".*/t\.wasm: compile module`)
				p.Line(`^LOG SEVERITY=warning MESSAGE=".*no valid WebAssembly`)
			} else {
				pttest.AwaitClose(t, pttest.Dial(t, p.Address("t")))
				p.Line(`^LOG SEVERITY=error MESSAGE=".*cannot load the module.*no valid WebAssembly`)
			}
			write(good) // and the next connection is served again
			if name == "client" {
				echoThrough(t, p.Address("t"))
			} else {
				pttest.AwaitClose(t, pttest.Dial(t, p.Address("t"))) // tor is not there
				p.Line(`^LOG SEVERITY=warning MESSAGE=".*ORPort`)
			}
		})
	}
}

// The end may come before a transport was used.
func TestEndUnused(t *testing.T) {
	flags := module("t", "plain_v1")
	for _, env := range []ptproc.Variables{clientVariables("t"), serverVariables("t", pttest.DeadAddress(t))} {
		env = started(t, env, flags)
		p := launch(t, env, flags...)
		p.ready()
		if err := p.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		p.Wait(pttest.EndLimit)
		p.CheckStatus(0)
	}
}
