//go:build unix

package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lab has what a demonstration leaves behind, if it does.
type lab struct{ temporary, pids string }

// newLab makes the folders. Their paths are as short as a Unix socket needs.
func newLab(t *testing.T) lab {
	t.Helper()
	var l lab
	for _, dir := range []*string{&l.temporary, &l.pids} {
		path, err := os.MkdirTemp("", "demo")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(path) })
		*dir = path
	}
	t.Setenv("TMPDIR", l.temporary)
	t.Setenv(pidsVariable, l.pids)
	return l
}

// checkClean checks that no file and no process is left.
func (l lab) checkClean(t *testing.T, wantProcesses int) {
	t.Helper()
	left, err := os.ReadDir(l.temporary)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s was left in the temporary folder", entry.Name())
	}
	pids, err := os.ReadDir(l.pids)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) != wantProcesses {
		t.Errorf("%d processes were started, want %d", len(pids), wantProcesses)
	}
	for _, entry := range pids {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there (%v)", pid, err)
		}
	}
}

func options(behaviour string, out *output) Options {
	return Options{
		Executable:   os.Args[0],
		Args:         []string{behaviour},
		ModuleSHA256: strings.Repeat("ab", 32),
		NoTor:        true,
		Size:         1 << 20,
		Out:          out,
	}
}

// output is a buffer that can be looked at while it is written to.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestNoTor(t *testing.T) {
	l := newLab(t)
	var out output
	if err := Run(t.Context(), options(behaveWell, &out)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^server, module inside: done`,
		`(?m)^client, module inside: done`,
		`(?m)^transport +plain$`,
		`(?m)^module's SHA-256 +(ab){32}$`,
		`(?m)^fetched +1048576 bytes, SHA-256 [0-9a-f]{64} as served$`,
		`(?m)^module to network +\d{3} bytes$`,
		`(?m)^network to module +10\d{5} bytes$`,
		`(?m)^time of the fetch +\d+\.\d\d s$`,
		`(?m)^speed of the fetch +\d+\.\d MB/s$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output does not match %q:\n%s", want, out.String())
		}
	}
	l.checkClean(t, 2)
}

func TestNoTorFails(t *testing.T) {
	for _, test := range []struct {
		behaviour, want string
		processes       int
	}{
		{refuse, "SMETHOD-ERROR plain does not want to", 1},
		{quit, "no reason to live", 1},
		{lackMetrics, "cannot tell how many bytes", 2},
		{lackCounter, `direction="from_network"`, 2},
		{stay, "had to be killed", 2},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			if test.behaviour == stay { // it has to be waited for in vain
				defer func(usual time.Duration) { stopLimit = usual }(stopLimit)
				stopLimit = time.Second
			}
			l := newLab(t)
			var out output
			err := Run(t.Context(), options(test.behaviour, &out))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
			l.checkClean(t, test.processes)
		})
	}
}

// A repository that cannot be made ends the demonstration.
func TestUpdateFails(t *testing.T) {
	l := newLab(t)
	var out output
	o := options(behaveWell, &out)
	o.Update, o.Executable = true, "/bin/false"
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "waterproxy publish init: exit status 1") {
		t.Errorf("the error is %v", err)
	}
	l.checkClean(t, 0)
}

// TestInterrupted ends the context while a transport is waited for, while a
// connection is tried and after the fetch.
func TestInterrupted(t *testing.T) {
	interrupted := errors.New("interrupted")
	for _, test := range []struct {
		behaviour, at string
		keep          bool
		want          error
		processes     int
	}{
		{say, "server, module inside ...", false, interrupted, 1},
		{loseConnections, "client, module inside: done", false, interrupted, 2},
		{behaveWell, "until you press Ctrl-C", true, nil, 2},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			l := newLab(t)
			var out output
			o := options(test.behaviour, &out)
			o.Keep = test.keep
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, o) }()
			waitFor(t, func() bool { return strings.Contains(out.String(), test.at) && l.started(t) == test.processes })
			cancel(interrupted)
			select {
			case err := <-ended:
				if !errors.Is(err, test.want) {
					t.Errorf("the error is %v, want %v", err, test.want)
				}
			case <-time.After(time.Minute):
				t.Fatal("it goes on after its context has ended")
			}
			l.checkClean(t, test.processes)
		})
	}
}

// started returns how many transports have begun to run.
func (l lab) started(t *testing.T) int {
	t.Helper()
	pids, err := os.ReadDir(l.pids)
	if err != nil {
		t.Fatal(err)
	}
	return len(pids)
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
