package walls

import (
	"errors"

	"golang.org/x/net/bpf"
)

// Available returns which walls this system has.
func Available() Standing {
	abi := landlockABI() // the first one cannot let files be moved between directories
	return Standing{NoNewPrivs: true, Files: abi >= 2, TCP: abi >= 4, Scoped: abi >= 6, Syscalls: seccompAvailable()}
}

// Raise raises the walls that the system has round the whole process, for good, and
// returns which of them stand. The error is why others do not that could. It has to be
// called before a module runs: below Landlock's ABI 8 every thread of the process has to
// take part, and one that runs compiled code of a module would not.
//
// A process that this one starts has the same walls. It can only start its own executable
// again, and nothing at all where Landlock is missing, since seccomp cannot tell programs
// apart.
func Raise(p Plan) (Standing, error) {
	has := Available()
	var errs []error
	var stand Standing
	// The filter is assembled beside Landlock's work, as if that went well.
	type filter struct {
		code []bpf.RawInstruction
		err  error
	}
	assembled := make(chan filter, 1)
	go func() {
		code, err := assemble(p, has.Files)
		assembled <- filter{code, err}
	}()
	if has.Files {
		if err := landlockRaise(p); err != nil {
			errs = append(errs, failed("Landlock", err))
		} else {
			kept := p
			if _, limited := ports(p.Connect); !limited || !has.TCP {
				kept.Connect = []PortRange{AnyPort} // which CheckPorts is to know
			}
			raised.Store(&kept)
			stand = Standing{NoNewPrivs: true, Files: true, TCP: has.TCP, Scoped: has.Scoped}
		}
	}
	if has.Syscalls {
		f := <-assembled
		if f.err == nil && stand.Files != has.Files {
			f.code, f.err = assemble(p, stand.Files)
		}
		if f.err == nil {
			f.err = load(f.code)
		}
		if f.err != nil {
			errs = append(errs, failed("seccomp", f.err))
		} else {
			stand.NoNewPrivs, stand.Syscalls = true, true
		}
	}
	return stand, errors.Join(errs...)
}
