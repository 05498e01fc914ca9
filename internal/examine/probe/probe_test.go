package probe

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }

// What a prober sees is what the server does.
func TestOutcomes(t *testing.T) {
	sent := bytes.Repeat([]byte("x"), 100)
	readAll := func(c *net.TCPConn) { _, _ = io.ReadFull(c, make([]byte, len(sent))) }
	for name, test := range map[string]struct {
		server    func(c *net.TCPConn)
		halfClose bool
		want      End
		answer    string
	}{
		"closes":            {server: readAll, want: FIN},
		"leaves some":       {server: func(c *net.TCPConn) { _, _ = io.ReadFull(c, make([]byte, 10)) }, want: RST},
		"ends a direction":  {server: func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.Copy(io.Discard, c) }, want: HalfFIN},
		"waits":             {server: func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, want: Silence},
		"sees a half-close": {server: func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, halfClose: true, want: FIN},
		"answers":           {server: func(c *net.TCPConn) { readAll(c); _, _ = c.Write([]byte("400 no")) }, want: FIN, answer: "400 no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := pttest.Patience
			if test.want == Silence {
				limit = 100 * time.Millisecond
			}
			s := Probe{Sends: sent, HalfClose: test.halfClose}.Repeat(t.Context(), pttest.Serve(t, test.server), 3, limit)
			for _, o := range s.Outcomes {
				if o.End != test.want || string(o.Answer) != test.answer || o.Length != int64(len(test.answer)) || o.After <= 0 {
					t.Errorf("%+v, want %s", o, test.want)
				}
			}
			if s.Closed() != (test.want != Silence) || s.Answered() != map[bool]int{true: 3}[test.answer != ""] || s.Ends()[test.want] != 3 {
				t.Errorf("%s: %+v", s.Describe(), s)
			}
		})
	}
	if o := (Probe{}).Try(t.Context(), pttest.DeadAddress(t), pttest.Patience); o.End != Refused {
		t.Errorf("without a server: %+v", o)
	}
}

// Random bytes are others for each prober.
func TestRandom(t *testing.T) {
	got := make(chan string, 2)
	address := pttest.Serve(t, func(c *net.TCPConn) {
		b := make([]byte, 40)
		if _, err := io.ReadFull(c, b); err == nil {
			got <- string(b)
		}
	})
	Probe{Random: 40}.Repeat(t.Context(), address, 2, pttest.Patience)
	if a, b := <-got, <-got; a == b {
		t.Error("two probers have sent the same")
	}
}

// series is one of which all connections ended in a way, after times in seconds.
func series(end End, seconds ...float64) (s Series) {
	for _, n := range seconds {
		s.Outcomes = append(s.Outcomes, Outcome{End: end, After: time.Duration(n * float64(time.Second))})
	}
	return s
}

func TestDiffers(t *testing.T) {
	answered := series(FIN, 1, 1, 1)
	answered.Outcomes[0].Length = 5
	for name, test := range map[string]struct {
		a, b    Series
		differs bool
	}{
		"the same":               {series(FIN, 30, 30.1, 30.2), series(FIN, 30, 30.5, 30.9), false},
		"another end":            {series(FIN, 1, 1, 1), series(RST, 1, 1, 1), true},
		"another end of one":     {series(FIN, 1, 1, 1), Series{Outcomes: append(series(FIN, 1, 1).Outcomes, Outcome{End: RST})}, true},
		"two seconds later":      {series(FIN, 30, 30, 30), series(FIN, 32, 32, 32), true},
		"at a random time":       {series(FIN, 30, 50, 90), series(FIN, 31, 70, 88), false},
		"answered":               {answered, series(FIN, 1, 1, 1), true},
		"random, but much later": {series(FIN, 1, 2, 3), series(FIN, 10, 12, 13), true},
	} {
		if got := test.a.Differs(test.b); (got != "") != test.differs {
			t.Errorf("%s: %q", name, got)
		}
		if got := test.b.Differs(test.a); (got != "") != test.differs {
			t.Errorf("%s, the other way: %q", name, got)
		}
	}
}
