package tornet

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"

	"waterproxy/internal/ptproc"
)

// TestEndProcesses has a process that was orphaned and ignores SIGTERM.
func TestEndProcesses(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `(trap "" TERM; while :; do sleep 1; done) & `)
	cmd.Env = append(os.Environ(), nodeVariable+"="+dir)
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	processes, err := Processes(dir)
	if err != nil || len(processes) == 0 {
		t.Fatalf("found %v and %v", processes, err)
	}
	var survivors *SurvivorsError
	if err := endProcesses(dir, 0); !errors.As(err, &survivors) {
		t.Errorf("got %v, want a SurvivorsError", err)
	}
	for _, p := range processes {
		if p.Alive() {
			t.Errorf("%v is alive", p)
		}
	}
	if err := endProcesses(dir, survivalTime); err != nil {
		t.Errorf("with nobody left: %v", err)
	}
}

// TestProcessIdentity has a process number whose owner is another one now.
func TestProcessIdentity(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	children, err := childProcesses(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(children, func(p Process) bool { return p.PID == cmd.Process.Pid })
	if i < 0 {
		t.Fatalf("%d is not among %v", cmd.Process.Pid, children)
	}
	child, former := children[i], children[i]
	former.started--
	if !child.Alive() || former.Alive() {
		t.Errorf("alive: the child %v, its number's former owner %v", child.Alive(), former.Alive())
	}
	if err := former.kill(); err != nil || !child.Alive() {
		t.Errorf("killing the former owner: %v; the child lives: %v", err, child.Alive())
	}
	if err := child.kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	if child.Alive() {
		t.Error("the child is alive")
	}
}
