package acceptloop

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"
)

// script is a listener that returns what it is told.
type script struct {
	net.Listener
	results []error // nil: a connection
}

func (s *script) Accept() (net.Conn, error) {
	err := s.results[0]
	s.results = s.results[1:]
	if err != nil {
		return nil, err
	}
	conn, _ := net.Pipe()
	return conn, nil
}

func TestRun(t *testing.T) {
	s := &script{results: []error{nil, syscall.EMFILE, syscall.EMFILE, nil, syscall.EMFILE, net.ErrClosed}}
	conns := 0
	var pauses []time.Duration
	err := Run(t.Context(), s, func(net.Conn) { conns++ }, func(err error, pause time.Duration) {
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v is reported", err)
		}
		pauses = append(pauses, pause)
	})
	if !errors.Is(err, net.ErrClosed) || conns != 2 {
		t.Errorf("it ended with %v, after %d connections", err, conns)
	}
	if want := []time.Duration{firstPause, 2 * firstPause, firstPause}; !slices.Equal(pauses, want) {
		t.Errorf("the pauses are %v, want %v", pauses, want)
	}
}

// The end of the context ends a pause, and is no error.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &script{results: []error{syscall.EMFILE}}
	if err := Run(ctx, s, nil, func(error, time.Duration) { cancel() }); err != nil {
		t.Error(err)
	}
}
