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
				defer func(usual time.Duration) { stopTimeout = usual }(stopTimeout)
				stopTimeout = time.Second
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

func TestArguments(t *testing.T) {
	args, err := parseArguments(`key=a\,b,other\=key=\\;`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := args.socks(), `key=a,b;other\=key=\\\;`; got != want {
		t.Errorf("for the client they are %q, want %q", got, want)
	}
	for _, wrong := range []string{"key", "=value", "key=value,", `key=value\`, "a=b,,c=d"} {
		if args, err := parseArguments(wrong); err == nil {
			t.Errorf("%q is understood as %v", wrong, args)
		}
	}
}

func TestCredentials(t *testing.T) {
	for _, test := range []struct {
		length             int // of the value, with a key of one letter
		user, password     int
		wantNone, wantFail bool
	}{
		{length: -1, wantNone: true},
		{length: 0, user: 2, password: 1},
		{length: 253, user: 255, password: 1},
		{length: 254, user: 255, password: 1},
		{length: 508, user: 255, password: 255},
		{length: 509, wantFail: true},
	} {
		var args arguments
		if test.length >= 0 {
			args = arguments{{"k", strings.Repeat("v", test.length)}}
		}
		auth, err := args.credentials()
		switch {
		case (err != nil) != test.wantFail || (auth == nil) != (test.wantNone || test.wantFail):
			t.Errorf("%d bytes: got %v and %v", test.length, auth, err)
		case auth != nil && (len(auth.User) != test.user || len(auth.Password) != test.password):
			t.Errorf("%d bytes: a user name of %d and a password of %d", test.length, len(auth.User), len(auth.Password))
		}
	}
}

func TestGreeting(t *testing.T) {
	for _, test := range []struct {
		name, keyword string
		lines         []string
		address       string
		wantErr       string
	}{
		{"client", clientMethod,
			[]string{"VERSION 1", "LOG SEVERITY=notice MESSAGE=x", "CMETHOD other socks5 127.0.0.1:1", "CMETHOD plain socks5 127.0.0.1:2", "CMETHODS DONE"},
			"127.0.0.1:2", ""},
		{"server", serverMethod, []string{"VERSION 1", "SMETHOD plain 127.0.0.1:2", "SMETHODS DONE"}, "127.0.0.1:2", ""},
		{"nothing offered", clientMethod, []string{"VERSION 1", "CMETHODS DONE"}, "", "does not offer"},
		{"no version", clientMethod, []string{"CMETHOD plain socks5 127.0.0.1:2", "CMETHODS DONE"}, "", "version 1"},
		{"old SOCKS", clientMethod, []string{"VERSION 1", "CMETHOD plain socks4 127.0.0.1:2"}, "", "socks5"},
		{"environment", clientMethod, []string{"ENV-ERROR no state"}, "", "ENV-ERROR no state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []handshake
			g := &greeting{keyword: test.keyword, transport: "plain", done: func(h handshake) { got = append(got, h) }}
			w := &lineWriter{line: g.line}
			// In pieces of one byte, as a pipe may deliver it.
			for _, c := range []byte(strings.Join(test.lines, "\n") + "\nafterwards\n") {
				w.Write([]byte{c})
			}
			if len(got) != 1 {
				t.Fatalf("%d outcomes: %v", len(got), got)
			}
			if h := got[0]; h.listener.address != test.address {
				t.Errorf("the address is %q, want %q", h.listener.address, test.address)
			}
			if err := got[0].err; (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("the error is %v, want %q", err, test.wantErr)
			}
		})
	}
}

// A line that does not end is not kept as a whole.
func TestLineWithoutEnd(t *testing.T) {
	longest, total := 0, 0
	w := &lineWriter{line: func(line string) { longest, total = max(longest, len(line)), total+len(line) }}
	piece := bytes.Repeat([]byte("x"), 1000)
	for range 1000 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if longest > maxLine+len(piece) || total+len(w.partial) != 1000*len(piece) || len(w.partial) > maxLine {
		t.Errorf("the longest line has %d bytes, all have %d, and %d are kept", longest, total, len(w.partial))
	}
}
