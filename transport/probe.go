package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"waterproxy/internal/ptargs"
	"waterproxy/transport/internal/guest"
)

// Probe starts an instance for one connection and stops it before it would
// connect to anything, to find out whether the module starts with this
// configuration, and what it publishes. ctx and ProbeTimeout bound it.
func Probe(ctx context.Context, c Config, r Role) (Published, error) {
	c, err := c.prepare(c.Module.CheckRole, r)
	if err != nil {
		return Published{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, ProbeTimeout, errSetupTimeout)
	defer cancel()
	o, err := c.options(r, &network{cfg: &c})
	if err != nil {
		return Published{}, err
	}
	published, err := guest.Probe(ctx, c.Module.m, o)
	if err != nil {
		return Published{}, wrap("start module", err)
	}
	return parsePublished(published)
}

// Published is what a server's module publishes for its clients.
type Published struct {
	// Args are the arguments that clients need (SMETHOD ARGS, pt-spec 3.3.3), nil if none.
	Args Args
	// Address is the one in the bridge line, if it is not the one that the server listens
	// on. It is of the documentation prefix and leads nowhere: clients of such a transport
	// find the server by their arguments.
	Address netip.AddrPort
}

// Equal reports whether two publish the same.
func (p Published) Equal(q Published) bool {
	return p.Address == q.Address && p.Args.String() == q.Args.String()
}

// placeholders are the addresses that a module may publish (RFC 3849): a real one would send
// clients, or a scanner of bridges, to somebody else.
var placeholders = netip.MustParsePrefix("2001:db8::/32")

// parsePublished reads what a module has published.
func parsePublished(text guest.Published) (p Published, err error) {
	if p.Args, err = parsePublishedArgs(text.Args); err != nil || text.Address == "" {
		return p, err
	}
	p.Address, err = netip.ParseAddrPort(text.Address)
	if err != nil || p.Address.Addr().Zone() != "" || !placeholders.Contains(p.Address.Addr()) || p.Address.Port() == 0 {
		return Published{}, &Error{"start module", ErrModule, errors.New("it published an address that is not of the documentation prefix, [2001:db8::...]:PORT")}
	}
	return p, nil
}

func parsePublishedArgs(text string) (Args, error) {
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
