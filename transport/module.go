package transport

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"slices"

	"waterproxy/internal/userfile"
	"waterproxy/transport/internal/compilechild"
	"waterproxy/transport/internal/guest"
)

// Role is one of the parts that a module can play for a connection.
type Role = guest.Role

// The roles of the W.A.T.E.R. documents.
const (
	// RoleClient is for outgoing connections to an address that the host knows.
	RoleClient = guest.Client
	// RoleFixedClient is for outgoing connections to an address that the module
	// chooses, as far as the host permits it.
	RoleFixedClient = guest.FixedClient
	// RoleServer is for accepted connections.
	RoleServer = guest.Server
	// RoleRelay joins an accepted connection to a dialed one.
	RoleRelay = guest.Relay
)

// CompileOptions are options for Compile. The zero value is good.
type CompileOptions struct {
	// CacheDir keeps compiled code between runs of the program; compiling takes
	// most of a second without it. The directory is made (mode 0700) if it does
	// not exist. It must belong to the user that runs the program and be
	// writable by no other, because what is in it is executed. Compile does
	// without a directory that is not private or cannot be written, and compiles
	// anew what is damaged in it; Logger gets a warning. Empty: no cache.
	CacheDir string
	// Logger gets what is wrong with the cache: one record for each damaged file,
	// and one in a process if a directory cannot be used. Nil: these are dropped.
	Logger *slog.Logger
	// LoadScale stretches the budget of what a module may have, from its bytes to the
	// depth of its blocks: see docs/modules.md. 0 means 1.
	LoadScale int
	// Compiler, if not empty, is a command, a program and its arguments, that compiles what
	// is not in CacheDir, in a process with limits of time and memory: it calls
	// RunCompiler. Without CacheDir, or where nothing can be kept in it, there is no such
	// process. A module that would make the compiler of this process take all of its memory
	// costs that process alone.
	Compiler []string
	// Interpreter runs the module without compiling it to machine code. It is
	// slow, and meant for checking the compiler.
	Interpreter bool
}

// Module is a compiled transport module. It is safe for concurrent use and is
// shared by any number of connections.
type Module struct {
	m      *guest.Module
	sha256 [sha256.Size]byte
	size   int
}

// Compile checks and compiles a module. It costs most of a second for a large
// module that is not in the cache. The error is an [ErrModule] if the module
// can't run here, with the reason. What is wrong with the cache is no error.
//
// Modules of one process that are compiled with the same options share one
// WebAssembly runtime.
func Compile(wasm []byte, o CompileOptions) (*Module, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	sum := sha256.Sum256(wasm)
	g := guest.CompileOptions{CacheDir: o.CacheDir, Interpreter: o.Interpreter, Log: o.Logger, Scale: o.LoadScale}
	if len(o.Compiler) > 0 {
		g.Child = func(ctx context.Context, wasm []byte) error {
			return compilechild.Command(o.Compiler).Compile(ctx, wasm, o.CacheDir, o.LoadScale)
		}
	}
	m, err := guest.Compile(context.Background(), wasm, sum, g)
	if err != nil {
		return nil, &Error{"compile module", ErrModule, err}
	}
	return &Module{m: m, sha256: sum, size: len(wasm)}, nil
}

// RunCompiler is what the command of [CompileOptions].Compiler does: it compiles the module
// on standard input, and leaves the result in a cache directory. args are those that follow
// the command's own. It returns the exit status of the process.
func RunCompiler(args []string) int {
	return compilechild.Main(args, os.Stdin, os.Stderr, func(wasm []byte, cacheDir string, scale int) error {
		m, err := guest.Compile(context.Background(), wasm, sha256.Sum256(wasm), guest.CompileOptions{
			CacheDir: cacheDir, Scale: scale, KeepAll: true, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		return m.Close()
	})
}

// CompileFile is Compile with the content of a regular file of at most 64 MiB, which is
// given up if it is not read within 10 s.
func CompileFile(name string, o CompileOptions) (*Module, error) {
	wasm, err := userfile.Read(name, userfile.MaxModule)
	if err != nil {
		return nil, &Error{"read module", ErrConfig, err}
	}
	return Compile(wasm, o)
}

// ABI returns the version of the WATM ABI that the module speaks: "v0" or "v1".
func (m *Module) ABI() string { return m.m.Shape().ABI.Name }

// Roles returns the roles in which an instance carries one connection.
func (m *Module) Roles() []Role { return slices.Clone(m.m.Shape().Roles) }

// ManyRoles returns the roles in which one instance can carry many connections.
func (m *Module) ManyRoles() []Role { return slices.Clone(m.m.Shape().Many) }

// SingleInstance reports whether the module declares that there must be one
// instance of it for all connections.
func (m *Module) SingleInstance() bool { return m.m.Shape().Single }

// CheckRole returns nil if an instance can carry one connection in the role, and
// otherwise an [ErrRole] with a [*RoleError] that names what is missing.
func (m *Module) CheckRole(r Role) error {
	if m == nil { // the configuration's check has a better error
		return nil
	}
	s := m.m.Shape()
	switch {
	case slices.Contains(s.Roles, r):
		return nil
	case s.HasMany(r):
		return wrap("check role", &RoleError{r, "it serves many connections only"})
	}
	return wrap("check role", &RoleError{r, s.Missing[r]})
}

// checkMany is CheckRole for an instance that carries many connections.
func (m *Module) checkMany(r Role) error {
	if m == nil || m.m.Shape().HasMany(r) {
		return nil
	}
	return wrap("check role", &RoleError{r, "it serves one connection only"})
}

// clientRole returns the role in which the module dials, in an instance for one
// connection or for many: client, in which the host knows the address, or else fixed
// client.
func (m *Module) clientRole(many bool) (Role, error) {
	check := m.CheckRole
	if many {
		check = m.checkMany
	}
	err := check(RoleClient)
	if err == nil {
		return RoleClient, nil
	}
	if check(RoleFixedClient) == nil {
		return RoleFixedClient, nil
	}
	return RoleClient, err
}

// Imports returns the host functions that the module uses, as MODULE.NAME,
// sorted.
func (m *Module) Imports() []string { return m.m.Imports() }

// LeastMemory returns what an instance takes of the host's memory at its start, in bytes, as
// Stats.Memory counts it.
func (m *Module) LeastMemory() uint64 { return m.m.LeastMemory() }

// Memory returns the bytes of linear memory that an instance starts with, and
// the most that the module declares it may grow to, 0 if it declares nothing.
func (m *Module) Memory() (min, max uint64) { return m.m.Memory().Min, m.m.Memory().Max }

// Threads reports whether an instance may have more than one thread, by starting
// them itself (wasi-threads) or as background workers (see docs/abi.md).
func (m *Module) Threads() bool { return m.m.Shape().Threads() }

// HalfClose reports whether the module itself handles the end of one direction
// and short writes (see docs/abi.md). For others the runtime does what it can.
func (m *Module) HalfClose() bool { return m.m.Shape().Posix || m.Threads() }

// HostCrypto reports whether the module uses the host's cryptography (water_crypto_v1, see
// docs/abi.md).
func (m *Module) HostCrypto() bool { return m.m.Shape().HostCrypto }

// Instances returns the number of instances that exist.
func (m *Module) Instances() int { return m.m.Running() }

// SHA256 returns the hash of the module's file.
func (m *Module) SHA256() [sha256.Size]byte { return m.sha256 }

// Size returns the size of the module's file in bytes.
func (m *Module) Size() int { return m.size }

// Close frees the compiled code as soon as no instance uses it, and makes new ones
// fail.
func (m *Module) Close() error { return m.m.Close() }
