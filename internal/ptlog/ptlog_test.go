package ptlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
)

// said returns what f writes to tor.
func said(t *testing.T, f func()) string {
	t.Helper()
	var buf bytes.Buffer
	old := pt.Stdout
	pt.Stdout = &buf
	defer func() { pt.Stdout = old }()
	f()
	return buf.String()
}

var logLine = regexp.MustCompile(`^LOG SEVERITY=([a-z]+) MESSAGE="((?:[ !#-\[\]-~]|\\[0-7]{3})*)"\n$`)

// parse takes a LOG line apart as tor does. The message is what slog wrote.
func parse(t *testing.T, line string) (severity, message string) {
	t.Helper()
	m := logLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("%q is no LOG line", line)
	}
	message = regexp.MustCompile(`\\[0-7]{3}`).ReplaceAllStringFunc(m[2], func(s string) string {
		n, err := strconv.ParseUint(s[1:], 8, 8)
		if err != nil {
			t.Fatal(err)
		}
		return string([]byte{byte(n)})
	})
	return m[1], message
}

func TestSeverities(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelError: "error", slog.LevelWarn: "warning", slog.LevelInfo: "info", slog.LevelDebug: "debug",
	} {
		line := said(t, func() { New(slog.LevelDebug).Log(t.Context(), level, "some text", "key", "a value", "n", 3) })
		severity, message := parse(t, line)
		if severity != want || message != `"some text" key="a value" n=3` {
			t.Errorf("%v: %s %q", level, severity, message)
		}
	}
}

func TestLevel(t *testing.T) {
	var level slog.LevelVar
	log := New(&level)
	log2 := log.With("transport", "t")
	count := func() int {
		return strings.Count(said(t, func() {
			for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				log2.Log(t.Context(), l, "x")
			}
		}), "\n")
	}
	for l, want := range map[slog.Level]int{slog.LevelDebug: 4, slog.LevelInfo: 3, slog.LevelWarn: 2, slog.LevelError: 1} {
		level.Set(l)
		if got := count(); got != want {
			t.Errorf("from %v on: %d lines, want %d", l, got, want)
		}
	}
}

type stringer struct{}

func (stringer) String() string { return "at 192.0.2.7:443" }

// No address gets to tor's log, whatever it is a part of.
func TestAddressesScrubbed(t *testing.T) {
	addresses := []string{
		"192.0.2.7", "192.0.2.7:443", "2001:db8::7", "[2001:db8::7]:443", "2001:db8:1:2:3:4:5:7", "[2001:db8:1:2:3:4:5:7]:443", "::ffff:192.0.2.7", "fe80::7%eth0",
	}
	for _, a := range addresses {
		for _, format := range []string{"%s", "dial tcp %s: refused", "x\n%s\ny", "x\r\n%s", "\t%s", "\x1b%s", "é %s", "\"%s\"", "(%s)", "a=%s", "%[1]s %[1]s", "%[1]s->%[1]s"} {
			text := fmt.Sprintf(format, a)
			line := said(t, func() {
				log := New(slog.LevelDebug)
				log.Info(text)
				log.Info("x", "line", text)
				log.Info("x", "error", errors.New(text))
				log.Info("x", slog.Group("g", "line", text))
				log.With("line", text).WithGroup("g").Info("x", "line", text)
			})
			for line := range strings.Lines(line) {
				_, message := parse(t, line)
				for _, secret := range []string{"192.0.2", "db8", "fe80"} {
					if strings.Contains(message, secret) {
						t.Errorf("%q is logged as %s", text, message)
					}
				}
			}
		}
	}
	line := said(t, func() {
		New(slog.LevelDebug).Info("x", "a", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443}, "b", net.IPv4(192, 0, 2, 7), "c", stringer{})
	})
	if _, message := parse(t, line); strings.Contains(message, "192") {
		t.Errorf("values are logged as %s", message)
	}
}

// What is no address stays: a log must be of use.
func TestRestStays(t *testing.T) {
	for _, text := range []string{"waterproxy 0.1.0", "took 12:34:56", "std::fmt::Display", "100%", "a: b: c", "1.2.3"} {
		line := said(t, func() { New(slog.LevelDebug).Info("x", "line", text) })
		if _, message := parse(t, line); !strings.Contains(message, text) {
			t.Errorf("%q is logged as %s", text, message)
		}
	}
}

// Whatever is logged is one line of printable ASCII.
func TestOneLine(t *testing.T) {
	for _, text := range []string{"a\nVERSION 1", "a\r\nb", "\x00", "\xff\xfe", "é\u2028\u0085", "\x1b[2J", `"`, `\`, "", "level=ERROR x\n"} {
		line := said(t, func() {
			New(slog.LevelDebug).Info(text, "k", text, text, 1, "e", errors.New(text), "b", []byte(text))
		})
		if severity, _ := parse(t, line); severity != "info" {
			t.Errorf("%q changed the severity to %s", text, severity)
		}
	}
}

func TestEnvError(t *testing.T) {
	got := said(t, func() { EnvError("a\nb %s\x00é\xff", "192.0.2.7") })
	if want := "ENV-ERROR a?b 192.0.2.7???\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{"a ~!": "a ~!", "\n\r\t\x7f\x00": "?????", "é\xff": "??", "": ""} {
		if got := Printable(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// locked is for many writers, of which goptlib's own is one.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// Lines of several goroutines do not get into each other: each is one write.
func TestConcurrent(t *testing.T) {
	out := &locked{}
	old := pt.Stdout
	pt.Stdout = out
	defer func() { pt.Stdout = old }()
	log := New(slog.LevelDebug)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 50 {
				log.Info(strings.Repeat("x", 100*i), "i", i)
			}
		})
	}
	wg.Wait()
	n := 0
	for line := range strings.Lines(out.buf.String()) {
		n++
		parse(t, line)
	}
	if n != 1000 {
		t.Errorf("%d lines, want 1000", n)
	}
}
