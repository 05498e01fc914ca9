package ptlog

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
)

// tor gets every line of the negotiation, however much of the log was dropped.
func TestNegotiationIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newGate()
		q := NewQueue(out, lost)
		old := pt.Stdout
		pt.Stdout = torLines{q}
		defer func() { pt.Stdout = old }()
		log := New(slog.LevelInfo)
		for range 2 * queueLines {
			log.Info("x")
			ReportConnect("t", "")
		}
		EnvError("x")
		pt.ReportVersion("waterproxy", "1")
		pt.ProxyDone()
		pt.CmethodError("t", "x")
		pt.CmethodsDone()
		close(out.pass)
		flush(t, q)
		const want = "ENV-ERROR x\nSTATUS TYPE=version IMPLEMENTATION=\"waterproxy\" VERSION=\"1\"\nPROXY DONE\nCMETHOD-ERROR t x\nCMETHODS DONE\n"
		if got := out.text(); !strings.Contains(got, want) || !strings.HasSuffix(got, " lost\n") {
			t.Errorf("the last lines are %q", got[max(0, len(got)-1000):])
		}
	})
}

// The reports about dropped lines are lines of the kind that was dropped, at every
// level of the log.
func TestReports(t *testing.T) {
	if severity, message := parse(t, string(stdout().report(12))); severity != "warning" || message != "12 lines were dropped because standard output was not read" {
		t.Errorf("tor gets %s, %q", severity, message)
	}
	text := string(flags(t, "-log-level", "error").reports("of it")(12))
	if !strings.HasPrefix(text, "time=") || !strings.HasSuffix(text, ` level=WARN msg="lines of the log were dropped because of it" lines=12`+"\n") {
		t.Errorf("text: %q", text)
	}
	var record struct {
		Msg   string
		Lines int
	}
	if err := json.Unmarshal(flags(t, "-log-format", "json").reports("of it")(12), &record); err != nil || record.Lines != 12 {
		t.Errorf("JSON: %+v, %v", record, err)
	}
}

// A log file is a regular file.
func TestLogFileKind(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := flags(t, "-log", "x").Open(dir); err == nil || !strings.HasSuffix(err.Error(), "x is not a regular file") {
		t.Errorf("%v", err)
	}
}
