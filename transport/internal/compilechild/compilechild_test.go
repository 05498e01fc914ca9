//go:build linux

package compilechild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"waterproxy/internal/rlimit"

	"waterproxy/internal/pttest"
)

// childArg makes the test binary a child, whose module says what it does.
const childArg = "child"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(Main(os.Args[2:], os.Stdin, os.Stderr, compile))
	}
	os.Exit(pttest.Run(m))
}

func compile(wasm []byte, cacheDir string, scale int) error {
	switch string(wasm) {
	case "refuse":
		return errors.New("it is bad")
	case "memory":
		var all [][]byte
		for range 64 {
			b := make([]byte, 64<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		return fmt.Errorf("it took %d times 64 MiB", len(all))
	case "limits":
		var cpu, core unix.Rlimit
		if err := errors.Join(unix.Getrlimit(unix.RLIMIT_CPU, &cpu), unix.Getrlimit(unix.RLIMIT_CORE, &core)); err != nil {
			return err
		}
		return fmt.Errorf("%d seconds, %d bytes of core, %s, %d, environment %q", cpu.Max, core.Max, cacheDir, scale, os.Environ())
	case "killed":
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	case "panic":
		panic("a fault of the compiler")
	}
	return nil
}

// TestCompile: a child's result is that of its module, and whatever becomes of a child, its
// parent says what it was.
func TestCompile(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := Command{exe, childArg}
	environment := "[]"
	if rlimit.RaceDetector { // or the child would live on for a second
		environment = `["GORACE=atexit_sleep_ms=0"]`
	}
	for module, want := range map[string]string{
		"good":   "",
		"refuse": "it is bad",
		"limits": fmt.Sprintf("%d seconds, 0 bytes of core, /a/dir, 7, environment %s", Seconds, environment),
		"killed": "processor time",
		"panic":  "the compiler failed: exit status 2: panic: a fault of the compiler",
		"memory": "MiB of memory",
	} {
		if module == "memory" && rlimit.RaceDetector {
			continue // there is no limit
		}
		err := child.Compile(t.Context(), []byte(module), "/a/dir", 7)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", module, err, want)
		}
	}
	err = Command{"/nonexistent"}.Compile(t.Context(), nil, "/a/dir", 1)
	if _, ok := errors.AsType[*StartError](err); !ok {
		t.Errorf("without a program: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := child.Compile(ended, []byte("good"), "/a/dir", 1); err == nil {
		t.Error("a context that has ended is no error")
	}
}

// TestUsage: what is no call of Compile ends at once.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"dir", "x", "1"}, {"dir", "1", "x"}, {"dir", "1", "-1"}} {
		var said tail
		if status := Main(args, strings.NewReader(""), &said, compile); status != exitUsage || said.String() == "" {
			t.Errorf("%q: status %d, %s", args, status, &said)
		}
	}
}
