package self

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"waterproxy/internal/pttest"
)

// The table of a process, as it is printed where there is no terminal.
func TestStatus(t *testing.T) {
	address := pttest.FreeAddress(t)
	p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...)
	pttest.Ask(t, p.Address("t"), pttest.DeadAddress(t), "")
	s := run(t, nil, "status", address)
	s.CheckStatus(0)
	var got [][]string
	for _, line := range s.Stdout.All() {
		got = append(got, strings.Fields(line))
	}
	if len(got) != 2 || strings.Join(got[1], " ") != "t 0 0 0 1 - 0 B 0 B 0 0 B 0 0" {
		t.Errorf("the table is %q", got)
	}
}

// The command shows an answer that is not ours in one clean line.
func TestStatusOfAStranger(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "waterproxy_bytes_total{direction=\"to_network\",transport=\"\x1b[31mred\"} NaN\n")
	}))
	defer srv.Close()
	s := run(t, nil, "status", srv.Listener.Addr().String())
	s.CheckStatus(0)
	got := s.Stdout.All()
	if len(got) != 2 || strings.Join(strings.Fields(got[1]), " ") != `"\x1b[31mred" - - - - - - - - - - -` {
		t.Errorf("the table is %q", got)
	}
}
