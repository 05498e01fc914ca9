package ptproc

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawner starts every process from one OS thread that never ends. The signal
// that Pdeathsig asks for is sent when the parent THREAD dies, and Go ends
// threads at its own discretion: a process started from any other thread could
// be killed while its harness is alive.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go spawn(work)
	return work
})

// spawn calls functions from one thread for ever.
func spawn(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// StartTied starts cmd such that the kernel kills it when this process dies, in
// whatever way, and that a terminal's Ctrl-C does not reach it: what is started
// here is stopped here, in order. Other attributes of cmd are kept.
func StartTied(cmd *exec.Cmd) error {
	var attributes syscall.SysProcAttr
	if cmd.SysProcAttr != nil {
		attributes = *cmd.SysProcAttr
	}
	attributes.Setpgid, attributes.Pdeathsig = true, syscall.SIGKILL
	cmd.SysProcAttr = &attributes
	result := make(chan error, 1)
	spawner() <- func() { result <- cmd.Start() }
	return <-result
}
