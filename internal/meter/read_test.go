package meter

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"waterproxy/transport"
)

func TestRead(t *testing.T) {
	m := New()
	s := &source{st: transport.Stats{Instances: 1, Memory: 2, Refused: 3, Traps: 4, Limits: 5}}
	s.carry(6, 7)
	m.Offer("b", s)
	m.Offer("a", &source{})
	for i := range 10 {
		end := m.Begin("b", time.Duration(6+i)*time.Millisecond) // 5 in the bucket up to 10 ms
		switch {
		case i < 5:
			end(nil)
		case i < 7:
			end(net.ErrClosed)
		}
	}
	socket := "unix:" + tempSocket(t)
	stop, err := m.Serve(socket, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	rows, err := Read(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{{Transport: "a"}, {
		Transport: "b", Open: 3, Finished: 5, Failed: 2, Refused: 3, ToNetwork: 6, FromNetwork: 7,
		SetUp: 10 * time.Millisecond, Instances: 1, Memory: 2, Traps: 4, Limits: 5,
	}}
	if !slices.Equal(rows, want) {
		t.Errorf("%+v, want %+v", rows, want)
	}
}

// The median is that of values spread evenly, and has a last bucket.
func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []time.Duration
		want   time.Duration
	}{
		{nil, 0},
		{[]time.Duration{time.Minute}, 30 * time.Second},
		{[]time.Duration{3 * time.Second}, 3750 * time.Millisecond}, // the middle of 2.5 to 5
	} {
		m := New()
		m.Offer("a", &source{})
		for _, v := range test.values {
			m.Begin("a", v)
		}
		socket := "unix:" + tempSocket(t)
		stop, err := m.Serve(socket, quiet)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := Read(t.Context(), socket)
		stop()
		if err != nil || len(rows) != 1 || rows[0].SetUp != test.want {
			t.Errorf("%v: %+v, %v; want %v", test.values, rows, err, test.want)
		}
	}
}

// What is not ours is an error, not a table of zeros.
func TestReadRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := ""
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answer == "" {
			http.NotFound(w, nil)
			return
		}
		_, _ = w.Write([]byte(answer))
	})}
	go srv.Serve(l)
	defer srv.Close()
	for _, answer = range []string{"", "<html>", "up 1\n"} {
		if rows, err := Read(t.Context(), l.Addr().String()); err == nil {
			t.Errorf("%q is %+v", answer, rows)
		}
	}
	srv.Close()
	if _, err := Read(t.Context(), l.Addr().String()); err == nil {
		t.Error("nobody has answered, and there is no error")
	}
}

// FuzzFigures: whatever answers at an address, it is figures or an error that can be
// printed.
func FuzzFigures(f *testing.F) {
	f.Add([]byte("# TYPE waterproxy_instances gauge\nwaterproxy_instances{transport=\"a\"} 1\n"), "text/plain")
	f.Add([]byte("# TYPE waterproxy_setup_seconds histogram\nwaterproxy_setup_seconds_bucket{transport=\"a\",le=\"+Inf\"} NaN\n"), "text/plain")
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		families, err := parseFigures(body, kind)
		if err == nil {
			_, err = rowsOf(families)
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("the error is %q", err)
		}
	})
}
