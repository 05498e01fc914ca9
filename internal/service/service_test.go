package service

import (
	"context"
	"errors"
	"testing"
)

// runner is a Runner that has nothing to run.
type runner struct{ closed chan struct{} }

func (r runner) Close() error { close(r.closed); return nil }
func (r runner) Wait()        {}

func TestStart(t *testing.T) {
	want := runner{make(chan struct{})}
	got, err := Start(t.Context(), func() (runner, error) { return want, nil })()
	if got != want || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	failure := errors.New("it does not start")
	if _, err := Start(t.Context(), func() (runner, error) { return want, failure })(); err != failure {
		t.Errorf("the error is %v", err)
	}
}

// What starts too late is closed, and nobody waits for it.
func TestStartTooLate(t *testing.T) {
	late, compiled := runner{make(chan struct{})}, make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	result := Start(ctx, func() (runner, error) { <-compiled; return late, nil })
	cancel()
	if _, err := result(); err != errEnding {
		t.Errorf("the error is %v", err)
	}
	close(compiled)
	<-late.closed
}
