//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noOwnCode has the program run as MemoryDenyWriteExecute= of systemd has it.
const noOwnCode = "WATERPROXY_TEST_NO_OWN_CODE"

func init() {
	if os.Getenv(noOwnCode) == "" {
		return
	}
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		panic(err)
	}
	if err := os.Unsetenv(noOwnCode); err != nil {
		panic(err)
	}
}

// A system that lets no process run code of its own is named as the reason.
func TestNoOwnCode(t *testing.T) {
	const want = "MemoryDenyWriteExecute= of the systemd unit"
	p := start(t, clientVariables("plain").with(variables{noOwnCode: "1"}))
	p.line(`^CMETHOD-ERROR plain .*` + want)
	p.line(`^CMETHODS DONE$`)
	p = run(t, variables{noOwnCode: "1"}, "client", "-state", stateDir, "-socks", "127.0.0.1:0", "plain", "127.0.0.1:9")
	p.checkStatus(exitFailure)
	if text := strings.Join(p.stderr.get(), "\n"); !strings.Contains(text, want) || strings.Contains(text, "goroutine") {
		t.Errorf("standard error has %q", text)
	}
}
