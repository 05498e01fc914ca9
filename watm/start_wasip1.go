package watm

import (
	"errors"
	_ "unsafe" // for linkname

	"waterproxy/internal/ptargs"
	"waterproxy/internal/records"
)

// main_main is the author's main function. A reactor's is not run by the host.
//
//go:linkname main_main main.main
func main_main()

//go:wasmexport watm_posix_io_v1
func posixIO() {}

//go:wasmexport watm_init_v1
func initialize() int32 {
	if err := guarded(func() error { main_main(); return nil }); err != nil {
		return fail(err)
	}
	if transport == nil {
		return fail(errors.New("the module's main function does not call watm.Run"))
	}
	// Where the host does not say the role, it shows later.
	if role := note(roleFile); role != "" {
		return start(role == "server" || role == "relay")
	}
	return 0
}

var started bool

// start runs the transport's Start, once.
func start(server bool) int32 {
	if started {
		return 0
	}
	started = true
	s, ok := transport.(Starter)
	if !ok {
		return 0
	}
	err := guarded(func() error {
		env, err := environment(server)
		if err != nil {
			return err
		}
		return s.Start(env)
	})
	if err != nil {
		return fail(err)
	}
	return 0
}

// newRequest is for the methods that dial.
func newRequest(target, args string) (*Request, error) {
	a, err := ptargs.Parse(args)
	if err != nil {
		return nil, err
	}
	if err := checkArgs(a); err != nil {
		return nil, err
	}
	r := &Request{Args: a}
	r.Network, r.Address = records.SplitTarget(target)
	return r, nil
}

// checkArgsOne checks the arguments of a bridge line in an instance that was started
// for nothing else.
//
//go:wasmexport watm_check_args_v1
func checkArgsOne() int32 {
	if r := start(false); r < 0 {
		return r
	}
	err := guarded(func() error {
		_, err := newRequest("", note(argsFile))
		return err
	})
	if err != nil {
		return fail(err)
	}
	return 0
}

// selfTestOne tests the transport in an instance that was started for nothing else.
//
//go:wasmexport watm_self_test_v1
func selfTestOne() int32 {
	if r := start(false); r < 0 {
		return r
	}
	s, ok := transport.(SelfTester)
	if !ok {
		return 0
	}
	if err := guarded(s.SelfTest); err != nil {
		return fail(err)
	}
	return 0
}

// argsError is the transport's refusal of a bridge line's arguments.
type argsError struct{ error }

// checkArgs asks the transport whether it takes the arguments of a bridge line.
func checkArgs(args Args) error {
	c, ok := transport.(ArgsChecker)
	if !ok {
		return nil
	}
	if err := c.CheckArgs(args); err != nil {
		return argsError{err}
	}
	return nil
}
