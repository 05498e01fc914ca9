package transport

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"

	"waterproxy/transport/internal/guest"
)

// ArgsError is a module's refusal of a bridge line's arguments.
type ArgsError struct {
	// Reason is the module's text, in which there are no values of arguments; "" if it
	// gave none.
	Reason string
}

func (e *ArgsError) Error() string {
	return cmp.Or(e.Reason, "the module refuses the bridge line's arguments")
}

// CheckArgs has the module check the arguments of a bridge line, as it does again when
// they are dialed with. The error is an [ErrConfig] with an [*ArgsError] in its chain if
// the module refuses them. It is nil for a module that cannot check them without a
// connection; Dial fails with the module's error then. The module runs in an instance of
// its own, which has the state directory of c and no network; ctx and ProbeTimeout bound
// it. An error of that instance is one of the check alone.
func CheckArgs(ctx context.Context, c Config, args Args) error {
	if c.Module == nil || !c.Module.ChecksArgs() {
		return c.Validate()
	}
	c, err := c.prepare(c.Module.checkClient, RoleClient)
	if err != nil {
		return err
	}
	c.Args = args
	c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errCheckDials }
	c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errCheckDials }
	ctx, cancel := context.WithTimeoutCause(ctx, ProbeTimeout, errCheckTimeout)
	defer cancel()
	role := RoleClient
	if !c.Module.m.Shape().Has(role) {
		role = RoleFixedClient
	}
	o, err := c.options(role, &network{cfg: &c})
	if err != nil {
		return err
	}
	err = guest.CheckArgs(ctx, c.Module.m, o)
	if refused, ok := errors.AsType[*guest.ArgsError](err); ok {
		return &Error{"check arguments", ErrConfig, &ArgsError{refused.Reason}}
	}
	return wrap("check arguments", err)
}

var (
	errCheckDials   = &Error{"check arguments", ErrModule, errors.New("the module dials, which it may not while it checks arguments")}
	errCheckTimeout = &Error{"check arguments", ErrLimit, errors.New("the module did not end in time")}
)

// ChecksArgs reports whether the module can check a bridge line's arguments without a
// connection (see docs/abi.md).
func (m *Module) ChecksArgs() bool { return m.m.Shape().ChecksArgs }

// checkClient returns nil if the module can be a client of any kind.
func (m *Module) checkClient(Role) error {
	if s := m.m.Shape(); s.Has(RoleClient) || s.Has(RoleFixedClient) {
		return nil
	}
	return m.CheckRole(RoleClient)
}
