package measure

import (
	"os/exec"
	"testing"
	"time"
)

func TestUsageOfThisProcess(t *testing.T) {
	for begin := time.Now(); time.Since(begin) < time.Millisecond; { // use some processor time
	}
	u, err := Self().Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU <= 0 || u.RSS <= 0 || u.PeakRSS < u.RSS || u.Threads < 1 || u.FDs < 3 {
		t.Errorf("implausible: %+v", u)
	}
}

func TestUsageOfAnEndedProcessIsAnError(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: cmd.Process.Pid}
	if u, err := p.Usage(); err == nil {
		t.Errorf("got %+v", u)
	}
	if d, err := p.CPU(); err == nil {
		t.Errorf("got %v", d)
	}
}

func TestParseStatus(t *testing.T) {
	var u Usage
	if err := parseStatus([]byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nThreads:\t7\n"), &u); err != nil {
		t.Fatal(err)
	}
	if u.PeakRSS != 2<<20 || u.RSS != 1<<20 || u.Threads != 7 {
		t.Errorf("got %+v", u)
	}
	if err := parseStatus([]byte("Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n"), &u); err == nil {
		t.Error("a zombie was accepted")
	}
}
