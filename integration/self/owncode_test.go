//go:build linux

package self

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
)

// noOwnCode has the program run as MemoryDenyWriteExecute= of systemd has it: a filter of
// system calls refuses to make memory executable.
const noOwnCode = "WATERPROXY_TEST_NO_OWN_CODE"

func init() {
	if os.Getenv(noOwnCode) == "" {
		return
	}
	if err := denyOwnCode(); err != nil {
		panic(err)
	}
}

func denyOwnCode() error {
	if err := os.Unsetenv(noOwnCode); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Offsets in struct seccomp_data: the call's number, and half of its third argument.
	const number, protection = 0, 16 + 2*8
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MPROTECT, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MMAP, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: protection},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.PROT_EXEC, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// A system that lets no process run code of its own is named as the reason.
func TestNoOwnCode(t *testing.T) {
	const want = "MemoryDenyWriteExecute= of the systemd unit"
	state := t.TempDir() // without records of earlier starts the module is loaded at once
	p := start(t, clientVariables("plain").With(ptproc.Variables{noOwnCode: "1", "TOR_PT_STATE_LOCATION": state}))
	p.Line(`^CMETHOD-ERROR plain .*` + want)
	p.Line(`^CMETHODS DONE$`)
	p = run(t, ptproc.Variables{noOwnCode: "1"}, "client", "-state", state, "-socks", "127.0.0.1:0", "plain", "127.0.0.1:9")
	p.CheckStatus(program.ExitFailure)
	if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, want) || strings.Contains(text, "goroutine") {
		t.Errorf("standard error has %q", text)
	}
}
