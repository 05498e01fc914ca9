package watm

import (
	"fmt"
	"log"
	"runtime/debug"
)

// panicError is what a panic of the transport's code is turned into.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guarded turns a panic of f into an error. The stack goes to the log.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Printf("panic: %v\n%s", p, debug.Stack())
			err = &panicError{p}
		}
	}()
	return f()
}
