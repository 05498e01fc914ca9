package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/guest"
)

// Defaults of a [Config].
const (
	DefaultMaxMemory      = 256 << 20 // of an instance for one connection
	DefaultManyMemory     = 2 << 30   // of an instance for many
	DefaultMaxDescriptors = 64
	DefaultMaxInstances   = 16384
	DefaultMaxConns       = 16384
	DefaultMaxThreads     = 16
	DefaultMaxState       = 64 << 20
	DefaultMaxStateFiles  = 1000
	DefaultSetupTimeout   = 30 * time.Second
	DefaultDrainTimeout   = 30 * time.Second

	// ProbeTimeout bounds [Probe] and [CheckArgs].
	ProbeTimeout = 10 * time.Second

	// InstancePerConn is the value of Config.Instances for an instance for each
	// connection.
	InstancePerConn = -1

	// mostInstances bounds those that are started without being asked for: each
	// has memory of its own.
	mostInstances = 8

	// mostConns is more than an instance has memory for.
	mostConns = 1 << 20

	maxMemory = 1 << 32 // what a 32-bit module can address
)

// Config is the module that carries connections, and what it may do and use. It
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
	// Allow grants the module addresses to dial by its own choice. Nil: none. A
	// module that is given its address by the host needs none.
	Allow []AddressRule
	// Resolve looks up host names that a module chooses to dial;
	// nil means the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// DialNames gives host names that a module dials by its own choice to Dial as they
	// are, for a Dial that goes through a proxy: looking them up here would tell others
	// where the proxy is to connect to. A rule for a name then grants what the name
	// stands for at the proxy, special addresses included.
	DialNames bool
	// StateDir, if not empty, is a directory in which the module may keep files
	// of its own; it sees it as /state. It must exist.
	StateDir string
	// StateFiles, if not nil, names the only files of StateDir that the module may
	// see and make, for a directory that it shares with others.
	StateFiles []string
	// Args are the arguments of a server (ServerTransportOptions). Those of
	// outgoing connections are given to Dial.
	Args Args
	// NoHostCrypto refuses a module that uses the host's cryptography
	// ([Module.HostCrypto]).
	NoHostCrypto bool
	// Instances bounds the instances that share the connections of a
	// RuntimeDialer or Listener. A new connection goes to the one that has the
	// fewest. 0 means one for each processor, up to eight; a module that declares
	// itself a single instance never has more than one. InstancePerConn gives
	// each connection an instance of its own, as is done for modules that cannot
	// serve many.
	Instances int
	// MaxConns bounds the connections of one instance. 0 means DefaultMaxConns.
	MaxConns int
	// MaxMemory bounds what one instance takes of the host's memory, in bytes: its linear
	// memory, and beside that its threads with their tables and globals, its descriptors
	// with what is queued for them, and its keys; see Stats.Memory. 0 means
	// DefaultMaxMemory for an instance that carries one connection, and
	// DefaultManyMemory for one that carries many.
	MaxMemory uint64
	// MaxDescriptors bounds what one connection has open at once, and what an
	// instance has besides its connections. 0 means DefaultMaxDescriptors.
	MaxDescriptors int
	// MaxThreads bounds the threads that one instance of a module with threads may
	// have besides the one it begins with. 0 means DefaultMaxThreads. MaxMemory is
	// for all of them.
	MaxThreads int
	// MaxState and MaxStateFiles bound what the module keeps in StateDir, in bytes and in
	// files and directories, all of its instances together. Beyond that its writes fail
	// (ENOSPC). 0 means DefaultMaxState and DefaultMaxStateFiles.
	MaxState      int64
	MaxStateFiles int
	// MaxInstances bounds the instances of Module that may exist at once, those
	// of other users of the module included; a connection beyond that fails with
	// an ErrLimit. 0 means DefaultMaxInstances.
	MaxInstances int
	// SetupTimeout bounds the set-up of one connection: starting the module,
	// dialing, and the module's handshake. 0 means DefaultSetupTimeout. A dial's
	// context can end it earlier.
	SetupTimeout time.Duration
	// DrainTimeout is how long a connection that was closed may go on without
	// moving a byte while it still has some to deliver. 0 means
	// DefaultDrainTimeout; negative means not at all.
	DrainTimeout time.Duration
	quota        *guest.Quota // set by prepare, of StateDir

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
	case c.NoHostCrypto && c.Module.HostCrypto():
		err = errors.New("the module uses the host's cryptography, which is switched off; one that is built for any host would do")
	case c.MaxMemory > maxMemory:
		err = fmt.Errorf("MaxMemory is %d; WebAssembly has at most %d", c.MaxMemory, uint64(maxMemory))
	case c.MaxDescriptors < 0:
		err = fmt.Errorf("MaxDescriptors is %d", c.MaxDescriptors)
	case c.Instances < InstancePerConn:
		err = fmt.Errorf("Instances is %d", c.Instances)
	case c.MaxConns < 0 || c.MaxConns > mostConns:
		err = fmt.Errorf("MaxConns is %d", c.MaxConns)
	case c.MaxThreads < 0:
		err = fmt.Errorf("MaxThreads is %d", c.MaxThreads)
	case c.MaxState < 0:
		err = fmt.Errorf("MaxState is %d", c.MaxState)
	case c.MaxStateFiles < 0:
		err = fmt.Errorf("MaxStateFiles is %d", c.MaxStateFiles)
	case c.MaxInstances < 0:
		err = fmt.Errorf("MaxInstances is %d", c.MaxInstances)
	case c.SetupTimeout < 0:
		err = fmt.Errorf("SetupTimeout is %v", c.SetupTimeout)
	default:
		return nil
	}
	return &Error{"check configuration", ErrConfig, err}
}

// prepare validates c and returns it with its defaults filled in, if check
// accepts any of the roles.
func (c Config) prepare(check func(Role) error, roles ...Role) (Config, error) {
	if err := c.Validate(); err != nil {
		return c, err
	}
	err := check(roles[0])
	for _, r := range roles[1:] {
		if check(r) == nil {
			err = nil
		}
	}
	if err != nil {
		return c, err
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Resolve == nil {
		c.Resolve = resolve
	}
	c.MaxDescriptors = cmp.Or(c.MaxDescriptors, DefaultMaxDescriptors)
	c.MaxThreads = cmp.Or(c.MaxThreads, DefaultMaxThreads)
	if c.StateDir != "" {
		c.quota = &guest.Quota{Bytes: cmp.Or(c.MaxState, DefaultMaxState), Files: cmp.Or(c.MaxStateFiles, DefaultMaxStateFiles)}
	}
	c.MaxInstances = cmp.Or(c.MaxInstances, DefaultMaxInstances)
	c.MaxConns = cmp.Or(c.MaxConns, DefaultMaxConns)
	c.Instances = cmp.Or(c.Instances, min(runtime.GOMAXPROCS(0), mostInstances))
	if c.Instances > 1 && c.Module.SingleInstance() {
		c.Instances = 1
	}
	c.SetupTimeout = cmp.Or(c.SetupTimeout, DefaultSetupTimeout)
	c.DrainTimeout = max(cmp.Or(c.DrainTimeout, DefaultDrainTimeout), 0)
	c.Allow = slices.Clone(c.Allow)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// options returns what an instance in a role is started with.
func (c *Config) options(r Role, n *network) (guest.Options, error) {
	o := guest.Options{
		Role: r, Host: n, Config: c.ModuleConfig, Logger: c.Logger,
		Args: c.Args.String(), Target: records.Target(n.network, n.address),
		Limits: guest.Limits{
			Memory: cmp.Or(c.MaxMemory, DefaultMaxMemory), Descriptors: c.MaxDescriptors, Threads: c.MaxThreads,
			Instances: c.MaxInstances, Conns: c.MaxConns,
		},
		Drain: c.DrainTimeout, DialTimeout: c.SetupTimeout,
	}
	if c.StateDir != "" {
		root, err := os.OpenRoot(c.StateDir)
		if err != nil {
			return o, &Error{"open state directory", ErrConfig, err}
		}
		o.State, o.StateFiles, o.Quota = root, c.StateFiles, c.quota
	}
	return o, nil
}

// carriesMany reports whether one instance will carry many connections in any of the
// roles.
func (c Config) carriesMany(roles ...Role) bool {
	return c.Module != nil && c.Instances != InstancePerConn &&
		slices.ContainsFunc(roles, func(r Role) bool { return c.Module.checkMany(r) == nil })
}
