package guest

import (
	"context"
	"errors"

	"waterproxy/transport/internal/compilechild"
)

// childRun compiles a module in another process, at most once.
type childRun struct {
	o    CompileOptions
	wasm []byte
	ran  bool
}

// childError is why a child refuses a module.
type childError struct{ err error }

func (e *childError) Error() string { return e.err.Error() }
func (e *childError) Unwrap() error { return e.err }

// try has the child run, unless it has run already or there is none. It reports whether it
// is worth while to look into the cache again; if not, and there is no error, this process
// does what a child would.
func (r *childRun) try(ctx context.Context) (again bool, err error) {
	if r.o.Child == nil || r.ran {
		return false, nil
	}
	r.ran = true
	switch err = r.o.Child(ctx, r.wasm); {
	case err == nil:
		return true, nil
	case isStartError(err):
		r.o.Log.Warn("a module is compiled without limits of time and memory", "error", err)
		return false, nil
	}
	return false, &childError{err}
}

func isStartError(err error) bool {
	_, ok := errors.AsType[*compilechild.StartError](err)
	return ok
}
