package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"waterproxy/internal/ptargs"
	"waterproxy/transport/internal/guest"
)

// Probe starts an instance for one connection and stops it before it would
// connect to anything, to find out whether the module starts with this
// configuration, and what arguments it publishes (nil if none).
// ctx and ProbeTimeout bound it.
func Probe(ctx context.Context, c Config, r Role) (Args, error) {
	c, err := c.prepare(c.Module.CheckRole, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, ProbeTimeout, errSetupTimeout)
	defer cancel()
	o, err := c.options(r, &network{cfg: &c})
	if err != nil {
		return nil, err
	}
	published, err := guest.Probe(ctx, c.Module.m, o)
	if err != nil {
		return nil, wrap("start module", err)
	}
	return parsePublished(published)
}

// parsePublished reads what a module has published.
func parsePublished(text string) (Args, error) {
	args, err := ptargs.Parse(text)
	if err != nil {
		return nil, &Error{"start module", ErrModule, fmt.Errorf("it published malformed arguments: %w", err)}
	}
	if len(args) == 0 {
		return nil, nil
	}
	// They go into a line that tor splits at spaces.
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, &Error{"start module", ErrModule, errors.New("it published arguments that are not printable ASCII without spaces")}
	}
	return args, nil
}
