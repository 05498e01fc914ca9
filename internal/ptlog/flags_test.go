package ptlog

import (
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"waterproxy/transport"
)

func flags(t *testing.T, args ...string) *Flags {
	t.Helper()
	var f Flags
	fs := flag.NewFlagSet("t", flag.ContinueOnError)
	f.Register(fs, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &f
}

// failure is an error that names an address.
var failure = &transport.Error{Op: "dial", Layer: transport.ErrNetwork, Err: &net.OpError{
	Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 9}, Err: syscall.ECONNREFUSED,
}}

func logSome(log *slog.Logger) {
	log.Debug("not this")
	log.Info("text with 192.0.2.8", Address("bridge", "bridge.example:443"), Error(failure), "n", 1)
	log.Info("other", Error(nil), "error", errors.New("to 192.0.2.9"))
}

// A file's records have no address unless that is wanted. tor never gets one.
func TestFile(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
		not  []string
	}{
		{nil, []string{"[scrubbed]", `error="dial: connection refused"`, "n=1", "level=INFO"}, []string{"example", "192.0.2", "not this"}},
		{[]string{"-log-addresses"}, []string{"bridge.example:443", "192.0.2.7:9", "192.0.2.8", "192.0.2.9"}, []string{"scrubbed"}},
		{[]string{"-log-level", "debug"}, []string{"not this", "[scrubbed]"}, []string{"192.0.2"}},
	} {
		dir := t.TempDir()
		f := flags(t, append(test.args, "-log", "file")...)
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second process appends
			toTor := said(t, func() {
				log, err := f.ToTorAnd(dir)
				if err != nil {
					t.Fatal(err)
				}
				logSome(log)
			})
			if !strings.Contains(toTor, "[scrubbed]") || strings.Contains(toTor, "192.0.2") || strings.Contains(toTor, "example") {
				t.Errorf("%q: tor gets %q", test.args, toTor)
			}
		}
		Flush()
		file := filepath.Join(dir, "file")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file is %v, %v", info, err)
		}
		if n := strings.Count(string(text), "msg=other"); n != 2 {
			t.Errorf("%d records, want 2", n)
		}
		for _, want := range test.want {
			if !strings.Contains(string(text), want) {
				t.Errorf("%q: %q lacks %q", test.args, text, want)
			}
		}
		for _, not := range test.not {
			if strings.Contains(string(text), not) {
				t.Errorf("%q: %q has %q", test.args, text, not)
			}
		}
	}
}

func TestJSON(t *testing.T) {
	dir := t.TempDir()
	log, err := flags(t, "-log", "file", "-log-format", "json").Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log.Warn("text", Error(failure))
	Flush()
	text, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]string
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	if record["level"] != "WARN" || record["msg"] != "text" || record["error"] != "dial: connection refused" || record["time"] == "" {
		t.Errorf("the record is %v", record)
	}
}

func TestFlagsRefuse(t *testing.T) {
	for _, args := range [][]string{
		{"-log-format", "xml"}, {"-log", "/var/log/x"}, {"-log", "../x"},
	} {
		if err := flags(t, args...).Check(); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if _, err := flags(t, "-log", "x").Open(""); err == nil {
		t.Error("a file without a directory: no error")
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if log, err := flags(t, "-log", "x").Open(missing); err == nil || !log.Enabled(t.Context(), slog.LevelInfo) {
		t.Errorf("a directory that is not there: %v, %v; want an error and a log on standard error", log, err)
	}
	if log, err := flags(t, "-log", "x").ToTorAnd(missing); err == nil || !log.Enabled(t.Context(), slog.LevelInfo) {
		t.Errorf("a directory that is not there: %v, %v; want an error and a log for tor", log, err)
	}
	// Without a wish there is no log, and no file.
	log, err := flags(t).Open("")
	if err != nil || log.Enabled(t.Context(), slog.LevelError) {
		t.Errorf("no wish: %v, %v", log, err)
	}
}
