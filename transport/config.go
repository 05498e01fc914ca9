package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"waterproxy/transport/internal/guest"
)

// Defaults of a [Config].
const (
	DefaultMaxMemory      = 256 << 20
	DefaultMaxDescriptors = 64
	DefaultSetupTimeout   = 30 * time.Second
	DefaultDrainTimeout   = 30 * time.Second
)

// Config says which module carries connections, and what it may do and use. It
// is a plain value; a dialer or listener keeps a copy.
type Config struct {
	// Module is required.
	Module *Module
	// ModuleConfig is what the module reads as its configuration: the file
	// /conf/watm.cfg (v1) or what pull_config opens (v0). Nil: no such file.
	ModuleConfig []byte
	// Dial makes network connections; nil means a net.Dialer. Any net.Conn will
	// do; kernel sockets of package net are used without copying. ctx bounds
	// dialing only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// MaxMemory bounds the linear memory of one instance, in bytes. 0 means
	// DefaultMaxMemory.
	MaxMemory uint64
	// MaxDescriptors bounds what one instance has open at once. 0 means
	// DefaultMaxDescriptors.
	MaxDescriptors int
	// SetupTimeout bounds the set-up of one connection: starting the module,
	// dialing, and the module's handshake. 0 means DefaultSetupTimeout. A dial's
	// context can end it earlier.
	SetupTimeout time.Duration
	// DrainTimeout is how long a connection that was closed may go on without
	// moving a byte while it still has some to deliver. 0 means
	// DefaultDrainTimeout; negative means not at all.
	DrainTimeout time.Duration
	// Logger gets what modules print and what goes wrong in connections. It is
	// never given an address. Nil means no log.
	Logger *slog.Logger
}

// Validate returns an [ErrConfig] if the configuration can't be used.
func (c Config) Validate() error {
	var err error
	switch {
	case c.Module == nil:
		err = errors.New("no module")
	case c.MaxDescriptors < 0:
		err = fmt.Errorf("MaxDescriptors is %d", c.MaxDescriptors)
	case c.SetupTimeout < 0:
		err = fmt.Errorf("SetupTimeout is %v", c.SetupTimeout)
	default:
		return nil
	}
	return &Error{"check configuration", ErrConfig, err}
}

// prepare validates c for a role and returns it with its defaults filled in.
func (c Config) prepare(r Role) (Config, error) {
	if err := c.Validate(); err != nil {
		return c, err
	}
	if err := c.Module.CheckRole(r); err != nil {
		return c, err
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = DefaultMaxMemory
	}
	if c.MaxDescriptors == 0 {
		c.MaxDescriptors = DefaultMaxDescriptors
	}
	if c.SetupTimeout == 0 {
		c.SetupTimeout = DefaultSetupTimeout
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	c.DrainTimeout = max(c.DrainTimeout, 0)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (c *Config) limits() guest.Limits {
	return guest.Limits{Memory: c.MaxMemory, Descriptors: c.MaxDescriptors}
}

// Probe starts an instance and stops it before it would connect to anything, to
// find out whether the module starts with this configuration. ctx and
// SetupTimeout bound it.
func (c Config) Probe(ctx context.Context, r Role) error {
	c, err := c.prepare(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.SetupTimeout, errSetupTimeout)
	defer cancel()
	o := guest.Options{Role: r, Host: &network{cfg: &c}, Config: c.ModuleConfig, Limits: c.limits(), Logger: c.Logger}
	return wrap("start module", guest.Probe(ctx, c.Module.m, o))
}
