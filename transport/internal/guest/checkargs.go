package guest

import (
	"context"
	"errors"
	"slices"
)

// ArgsError is a module's refusal of a bridge line's arguments. Package transport has
// its own for users.
type ArgsError struct {
	Reason string // the module's own words; may be empty
}

func (e *ArgsError) Error() string { return "the module refuses the arguments: " + e.Reason }

// CheckArgs starts an instance in o's role, has it check o.Args and stops it before it
// connects to anything. The module must be one that can (Shape.ChecksArgs). The error is
// an ArgsError if the module refuses the arguments. ctx bounds all of that; nothing is
// left behind.
func CheckArgs(ctx context.Context, m *Module, o Options) error {
	check := m.shape.ABI.checkArgs
	err := callAlone(ctx, m, o, check)
	if refused, ok := errors.AsType[*ResultError](err); ok && refused.Where == check.name {
		return &ArgsError{refused.Reason}
	}
	return err
}

// SelfTest starts an instance in o's role, has it test itself and stops it. The module must
// be one that can (Shape.SelfTests). ctx bounds all of that; nothing is left behind.
func SelfTest(ctx context.Context, m *Module, o Options) error {
	return callAlone(ctx, m, o, m.shape.ABI.selfTest)
}

// callAlone calls a function in an instance that is for nothing else.
func callAlone(ctx context.Context, m *Module, o Options, f function) error {
	in := newInstance(ctx, m, o)
	if !slices.Contains(m.shape.Roles, o.Role) {
		in = newMany(ctx, m, o).Instance
	}
	err := in.bounded(ctx, func() error {
		if err := in.initialise(); err != nil {
			return err
		}
		_, err := in.call(f)
		return err
	})
	in.discard(err)
	return err
}
