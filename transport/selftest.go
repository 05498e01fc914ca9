package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"waterproxy/transport/internal/guest"
)

// SelfTest has a module test itself, if it exports a function for that (docs/abi.md,
// "Self-test"), and does nothing for another. The module runs in an instance of its own,
// in the first role that it has, with the configuration of c, without its state directory
// and without a network; ctx and ProbeTimeout bound it.
func SelfTest(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil || !c.Module.m.Shape().SelfTests {
		return err
	}
	shape := c.Module.m.Shape()
	role := append(shape.Roles, shape.Many...)[0]
	c, err := c.prepare(func(Role) error { return nil }, role)
	if err != nil {
		return err
	}
	c.StateDir, c.StateFiles = "", nil
	c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errTestDials }
	c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errTestDials }
	ctx, cancel := context.WithTimeoutCause(ctx, ProbeTimeout, errTestTimeout)
	defer cancel()
	o, err := c.options(role, &network{cfg: &c})
	if err != nil {
		return err
	}
	return wrap("test module", guest.SelfTest(ctx, c.Module.m, o))
}

var (
	errTestDials   = &Error{"test module", ErrModule, errors.New("the module dials, which it may not while it tests itself")}
	errTestTimeout = &Error{"test module", ErrLimit, errors.New("the module did not end in time")}
)
