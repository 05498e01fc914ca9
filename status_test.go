package main

import (
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/meter"
)

// The table of a process, as it is printed where there is no terminal.
func TestStatus(t *testing.T) {
	address := freeAddress(t)
	p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...)
	ask(t, p.address("t"), deadAddress(t), "")
	s := run(t, nil, "status", address)
	s.checkStatus(0)
	var got [][]string
	for _, line := range s.stdout.get() {
		got = append(got, strings.Fields(line))
	}
	if len(got) != 2 || strings.Join(got[1], " ") != "t 0 0 0 1 - 0 B 0 B 0 0 B 0 0" {
		t.Errorf("the table is %q", got)
	}
}

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
	address := freeAddress(t)
	stop, err := m.Serve(address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var out lines
	ended := make(chan struct{})
	go func() {
		if err := watchStatus(t.Context(), &out, address, 10*time.Millisecond, maxRows); err == nil {
			t.Error("the process has gone, and there is no error")
		}
		close(ended)
	}()
	out.await(t, `^\x1b\[1A\x1b\[J +TRANSPORT`, ended)
	stop()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it goes on")
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

// The command shows an answer that is not ours in one clean line.
func TestStatusOfAStranger(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "waterproxy_bytes_total{direction=\"to_network\",transport=\"\x1b[31mred\"} NaN\n")
	}))
	defer srv.Close()
	s := run(t, nil, "status", srv.Listener.Addr().String())
	s.checkStatus(0)
	got := s.stdout.get()
	if len(got) != 2 || strings.Join(strings.Fields(got[1]), " ") != `"\x1b[31mred" - - - - - - - - - - -` {
		t.Errorf("the table is %q", got)
	}
}
