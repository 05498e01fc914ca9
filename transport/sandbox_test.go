package transport

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"waterproxy/transport/testmodules"
)

// report dials with a module that reports, and returns the lines.
func report(t *testing.T, cfg Config) []string {
	t.Helper()
	near, _ := clientLink(t, cfg).connect(t)
	near.SetDeadline(time.Now().Add(patience))
	var all []byte
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(all, []byte("\nend\n")) {
		n, err := near.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
	}
	return strings.Split(strings.TrimSuffix(string(all), "\nend\n"), "\n")
}

// value returns the number after "what: ".
func value(t *testing.T, lines []string, what string) int64 {
	t.Helper()
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, what+": "); ok {
			n, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %q in %q", what, lines)
	return 0
}

// TestFilesAreHidden: a module sees its configuration and nothing else.
func TestFilesAreHidden(t *testing.T) {
	for _, name := range []string{"evil_files_v0", "evil_files_v1"} {
		for _, config := range [][]byte{nil, []byte("secret configuration")} {
			cfg := testConfig(t, name)
			cfg.ModuleConfig = config
			lines := report(t, cfg)
			text := strings.Join(lines, "\n")
			dirs := int64(0)
			if config != nil {
				dirs = 1
			}
			if n := value(t, lines, "preopened directories"); n != dirs {
				t.Errorf("%s: %d preopened directories, not %d", name, n, dirs)
			}
			for _, line := range lines {
				path, isOpen := strings.CutPrefix(line, "open ")
				path, errno, _ := strings.Cut(path, ": ")
				switch {
				case isOpen && errno == "0" && path != "." && path != "/":
					t.Errorf("%s: opened %s\n%s", name, path, text)
				case strings.HasPrefix(line, "entry ") && line != "entry conf":
					t.Errorf("%s: listed %q", name, line)
				case strings.HasPrefix(line, "create: 0"):
					t.Errorf("%s: created a file", name)
				}
			}
		}
	}
}

// TestStateDirectory: a directory that was granted is all that is granted.
func TestStateDirectory(t *testing.T) {
	outside := t.TempDir()
	state := filepath.Join(outside, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"etc/passwd", "proc/self/environ"} {
		os.MkdirAll(filepath.Dir(filepath.Join(outside, f)), 0o700)
		if err := os.WriteFile(filepath.Join(outside, f), []byte("outside"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..", filepath.Join(state, "etc")); err != nil { // so etc/passwd leads outside
		t.Fatal(err)
	}
	cfg := testConfig(t, "evil_files_v1")
	cfg.StateDir = state
	for _, line := range report(t, cfg) {
		path, isOpen := strings.CutPrefix(line, "open ")
		path, errno, _ := strings.Cut(path, ": ")
		if isOpen && errno == "0" && path != "." && path != "/" {
			t.Errorf("opened %s", path)
		}
	}
	if _, err := os.Stat(filepath.Join(state, "new")); err != nil {
		t.Errorf("a file in the module's own directory was not created: %v", err)
	}
}

func TestEnvironmentIsEmpty(t *testing.T) {
	lines := report(t, testConfig(t, "evil_environ_v1"))
	if a, e := value(t, lines, "number of args"), value(t, lines, "number of environ"); a != 0 || e != 0 {
		t.Errorf("%d arguments and %d variables: %q", a, e, lines)
	}
}

// TestClocksAndRandom: clocks are real and random numbers are random.
func TestClocksAndRandom(t *testing.T) {
	random := map[string]bool{}
	for _, name := range []string{"probe_v0", "probe_v1", "probe_v1"} {
		lines := report(t, testConfig(t, name))
		if away := time.Since(time.Unix(0, value(t, lines, "realtime"))); away < 0 || away > time.Minute {
			t.Errorf("%s: the clock is %v off", name, away)
		}
		if slept := time.Duration(value(t, lines, "slept")); slept < 10*time.Millisecond || slept > 10*time.Second {
			t.Errorf("%s: slept %v, not 10 ms", name, slept)
		}
		for _, line := range lines {
			if hex, ok := strings.CutPrefix(line, "random: "); ok {
				if random[hex] {
					t.Errorf("%s: %s came twice", name, hex)
				}
				random[hex] = true
			}
		}
		for what, want := range map[string]string{
			"stdin": "type 2", "stdout": "type 2", "stderr": "type 2",
			"control": "type 6 flags 4", "caller": "type 6 flags 4", "network": "type 6 flags 4", "none": "errno 8",
		} {
			if !regexp.MustCompile(`(?m)^` + what + ` descriptor \d+.*` + want).MatchString(strings.Join(lines, "\n")) {
				t.Errorf("%s: %s is not %q in %q", name, what, want, lines)
			}
		}
	}
	if len(random) != 6 {
		t.Errorf("%d random numbers were reported, not 6", len(random))
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, name := range []string{"evil_memory_v0", "evil_memory_v1"} {
		cfg := testConfig(t, name)
		for _, limit := range []uint64{4 << 20, 20 << 20} {
			cfg.MaxMemory = limit
			if pages := value(t, report(t, cfg), "pages"); uint64(pages)<<16 > limit || uint64(pages)<<16 < limit-20<<16 {
				t.Errorf("%s got %d pages of a limit of %d", name, pages, limit>>16)
			}
		}
	}
	cfg := testConfig(t, "evil_huge_memory_v1")
	d, err := NewRuntimeConnDialer(cfg)
	if err == nil {
		_, err = d.DialContext(t.Context(), "tcp", "192.0.2.1:1")
	}
	if !errors.Is(err, ErrLimit) {
		t.Errorf("4 GiB from the start: %v", err)
	}
}

func TestDescriptorLimit(t *testing.T) {
	for _, name := range []string{"evil_dial_many_v0", "evil_dial_many_v1"} {
		for _, limit := range []int{3, 20} {
			cfg := testConfig(t, name)
			cfg.MaxDescriptors = limit
			l := loopback(t)
			var mu sync.Mutex
			dialed := 0
			cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				mu.Lock()
				dialed++
				mu.Unlock()
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			d, err := NewRuntimeConnDialer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.DialContext(t.Context(), "tcp", l.Addr().String())
			if !errors.Is(err, ErrLimit) {
				t.Errorf("%s: %v", name, err)
			} else if !strings.Contains(err.Error(), "limit of "+strconv.Itoa(limit)+" ") {
				t.Errorf("%s: the limit is %d, but it says: %v", name, limit, err)
			}
			if dialed > limit+1 {
				t.Errorf("%s made %d connections with a limit of %d", name, dialed, limit)
			}
		}
	}
}

// TestBadArguments: pointers and numbers that lead nowhere are errors, and never
// more than that.
func TestBadArguments(t *testing.T) {
	for _, name := range []string{"evil_pointers_v0", "evil_pointers_v1", "evil_pointers_late_v1"} {
		for _, line := range report(t, testConfig(t, name)) {
			if strings.HasSuffix(line, ": 0") && name != "evil_pointers_late_v1" {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	odd := strings.Join(report(t, testConfig(t, "evil_poll_odd_v1")), "\n")
	for _, want := range []string{
		"none errno 28", "no such descriptor errno 0 events 1 error 8", "clock 0 errno 0 events 1",
		"clock 77 errno 28", "type 9 errno 28", "reading from standard output errno 0 events 1 error 0",
		"100000 clocks errno 28", "100000 reads errno 28",
	} {
		if !strings.Contains(odd, want) {
			t.Errorf("no %q in %s", want, odd)
		}
	}
}

// TestModuleChoosesNoAddress without a grant, in whatever way it is written.
func TestModuleChoosesNoAddress(t *testing.T) {
	for _, line := range report(t, testConfig(t, "evil_dial_anywhere_v1")) {
		if i := strings.LastIndex(line, ": "); i < 0 || !strings.HasPrefix(line[i+2:], "-") {
			if line != "tcp " && line != "tcp 127.0.0.1:22\r" { // the rest is on the next line
				t.Errorf("not refused: %q", line)
			}
		}
	}
	for _, name := range []string{"evil_accept_in_dial_v0", "evil_accept_in_dial_v1"} {
		if n := value(t, report(t, testConfig(t, name)), "accepted"); n != 0 {
			t.Errorf("%s accepted %d connections", name, n)
		}
	}
}

// TestOutputStaysInside: standard output belongs to tor; what modules print goes
// to the log, line by line, bounded.
func TestOutputStaysInside(t *testing.T) {
	child, stdout := inChild(t, patience)
	if !child {
		if text := strings.TrimSpace(string(stdout)); text != "PASS" {
			t.Errorf("on standard output: %q", text)
		}
		return
	}
	var mu sync.Mutex
	var logged bytes.Buffer
	for _, name := range testmodules.Names(t, "evil_std") {
		cfg := evilConfig(t, name, hangs, nil)
		cfg.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &logged}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		l := clientLink(t, cfg)
		await(t, "output of "+name, func() bool {
			near, far := l.connect(t)
			select { // give it time to print
			case <-near.Done():
			case <-time.After(50 * time.Millisecond):
			}
			far.Close()
			near.Abort()
			<-near.Done() // a line without an end is logged now
			mu.Lock()
			defer mu.Unlock()
			return logged.Len() > 0
		})
		mu.Lock()
		lines := strings.Split(logged.String(), "\n")
		logged.Reset()
		mu.Unlock()
		if len(lines) > 200 {
			t.Errorf("%s: %d lines are in the log", name, len(lines))
		}
		for _, line := range lines {
			if line != "" && !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\x1b\x07\x00") || len(line) > 8<<10 {
				t.Errorf("%s: in the log: %.200q", name, line)
			}
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}
