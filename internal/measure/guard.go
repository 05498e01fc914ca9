package measure

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTimeout is in the chain of the error of a measurement that did not end in
// the time it had.
var ErrTimeout = errors.New("not finished in time")

// abandonAfter is how long a measurement that ran out of time may still take to
// return once its connections are closed.
const abandonAfter = 2 * time.Second

// within runs work for at most limit. When the time is over, or ctx is, it calls
// abort (which must close whatever work waits for), lets work return, and
// reports ErrTimeout or the context's error. Work that does not return even then
// is left behind: neither the deadlines nor the Close of a connection under test
// can be relied on.
func within[T any](ctx context.Context, limit time.Duration, abort func(), work func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := work()
		done <- outcome{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var cause error
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
		cause = fmt.Errorf("%w (%v)", ErrTimeout, limit)
	case <-ctx.Done():
		cause = ctx.Err()
	}
	go abort()
	select {
	case o := <-done:
		return o.value, cause
	case <-time.After(abandonAfter):
		var none T
		return none, cause
	}
}
