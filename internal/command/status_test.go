package command

import (
	"bufio"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/meter"
)

func TestTable(t *testing.T) {
	rows := []meter.Row{{
		Transport: "long_name", Open: 1, Finished: 22, Failed: 3, Refused: 4, ToNetwork: 3 << 20, FromNetwork: 5 << 40,
		SetUp: 12345 * time.Microsecond, Instances: 2, Memory: 1536, Traps: 5, Limits: 6,
	}, {Transport: "new"}}
	before := []meter.Row{{Transport: "long_name", ToNetwork: 1 << 20, FromNetwork: 6 << 40}}
	lines := strings.Split(table(rows, before, 2*time.Second, maxRows), "\n")
	if len(lines) != 4 || lines[3] != "" || len(lines[0]) != len(lines[1]) || len(lines[1]) != len(lines[2]) {
		t.Fatalf("the table is %q", lines)
	}
	want := "long_name 1 22 3 4 12.3 ms 3.0 MiB (1.0 MiB/s) 5.0 TiB 2 1.5 KiB 5 6" // what went down is another process's
	if got := strings.Join(strings.Fields(lines[1]), " "); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The live table is drawn over itself, and ends with the process.
func TestStatusLive(t *testing.T) {
	m := meter.New()
	address := "unix:" + filepath.Join(t.TempDir(), "metrics")
	stop, err := m.Serve(address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	shown, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := watchStatus(t.Context(), out, address, 10*time.Millisecond, maxRows)
		out.Close()
		ended <- err
	}()
	again := regexp.MustCompile(`^\x1b\[1A\x1b\[J +TRANSPORT`)
	lines := bufio.NewScanner(shown)
	for lines.Scan() && !again.Match(lines.Bytes()) {
	}
	if !again.Match(lines.Bytes()) {
		t.Errorf("the table is not drawn over itself; the last line is %q", lines.Bytes())
	}
	go io.Copy(io.Discard, shown)
	stop()
	if err := <-ended; err == nil {
		t.Error("the process has gone, and there is no error")
	}
}

// What another process serves can neither control the terminal nor flood it.
func TestTableOfAnything(t *testing.T) {
	rows := []meter.Row{
		{Transport: "\x1b[31m\x1b]0;title\a\r\nred\u202e\xff\t"},
		{Transport: strings.Repeat("\x1b", 10000)},
		{Transport: ""},
		{Transport: "a b"},
		{Transport: "nan", ToNetwork: meter.Figure(math.NaN()), FromNetwork: meter.Figure(math.Inf(1)), Memory: -1, Open: 1e300, SetUp: -1},
	}
	text := table(rows, rows, time.Second, maxRows)
	for _, r := range text {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Fatalf("%q is in %q", r, text)
		}
	}
	lines := strings.Split(text, "\n")
	if len(lines) != len(rows)+2 || len(lines[0]) > 600 {
		t.Fatalf("the table is %q", lines)
	}
	if got, want := strings.Join(strings.Fields(lines[5]), " "), "nan - 0 0 0 - - - 0 - 0 0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := strings.Fields(lines[3])[0]; got != `""` {
		t.Errorf("the empty name is %s", got)
	}
	lines = strings.Split(table(make([]meter.Row, 1000), nil, 0, 10), "\n")
	if len(lines) != 13 || lines[11] != "and 990 more" {
		t.Errorf("1000 rows of which 10 are wanted are %d lines, at the end %q", len(lines), lines[len(lines)-2])
	}
}
