// Package guest runs transport modules: it compiles them, starts instances,
// gives them their descriptors and host functions, and stops them.
package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"waterproxy/transport/internal/linmem"
	"waterproxy/transport/internal/stream"
	"waterproxy/transport/internal/wasmfile"
)

// Host gives an instance its network connections. The methods run on the
// instance's goroutine and end when ctx does.
type Host interface {
	// Dial connects to an address of the module's choice, if it may.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// DialFixed connects to the address that the host was given.
	DialFixed(ctx context.Context) (net.Conn, error)
	// Accept returns the inbound connection that the instance is for.
	Accept(ctx context.Context) (net.Conn, error)
}

// Limits bounds what an instance may use.
type Limits struct {
	Memory      uint64 // bytes of linear memory
	Descriptors int    // of a connection, or of the instance besides connections
	Instances   int    // of the module, this one included
	Conns       int    // of an instance that serves many
}

// Options is what an instance is started with.
type Options struct {
	Role   Role
	Host   Host
	Config []byte   // the module's configuration file; nil for none
	State  *os.Root // the module's state directory; nil for none
	// StateFiles are all that there is of State for the module; nil is no limit.
	StateFiles []string
	Args       string // of the server, or of the client's one connection; see internal/control
	Target     string // what DialFixed dials, for the module to know
	Limits     Limits
	Caller     stream.Stream // nil in the relay role, and for many connections
	// Drain is how long a connection that the module of many connections has
	// closed may go without moving a byte while it still has some to deliver.
	Drain time.Duration
	// DialTimeout bounds dials that belong to no one connection.
	DialTimeout time.Duration
	Logger      *slog.Logger
}

// ErrKilled is the cause of an instance that was stopped by Kill(nil).
var ErrKilled = errors.New("the instance was stopped")

// exitKilled is what a killed instance unwinds with; it never reaches a user.
const exitKilled = 0xdead

// Instance is one running module. Start and Run are called by one goroutine, one
// after the other; the rest may be called from anywhere.
type Instance struct {
	o     Options
	shape *Shape
	mod   api.Module
	fds   descriptors
	main  *thread
	mode  stream.Mode
	many  *Many // nil if the instance serves one connection
	notes mailboxes

	caller  *stream.Port
	control *stream.PipeConn

	portsMu sync.Mutex
	ports   []*stream.Port // caller and network, in the order they came

	life    context.Context // ends with Kill; bounds what the host does for the module
	endLife context.CancelFunc
	hostErr atomic.Pointer[error]
	// lastWords is what its runtime printed when it gave up, as Go's and Rust's do.
	lastWords atomic.Pointer[string]
	stop      atomic.Pointer[api.MutableGlobal]
	countedBy *Module // nil before this instance counts as one of the module's
	memory    linmem.Allocator
	dead      chan struct{}
	deadOnce  sync.Once
	cause     error // set before dead is closed
	closing   atomic.Bool
	activity  atomic.Uint64 // counts what could give the module reason to write
	goodbye   sync.Once
}

// thread is one line of execution inside an instance, with what a host call
// needs at hand.
type thread struct {
	in    *Instance
	wake  stream.Signal
	timer *time.Timer
	quiet int      // polls that only a clock ended since bytes last moved
	shown bool     // the module has been shown the end of its work
	bufs  [][]byte // scratch for iovecs
	call  call     // the host call under way, which never nests
}

type threadKey struct{}

func newThread(in *Instance) *thread {
	t := &thread{in: in, wake: stream.NewSignal()}
	t.call.thread = t
	return t
}

// Start brings an instance of m to the point where Run can carry bytes: it is
// initialised, its role's function has returned and its connections are up. ctx
// bounds all of that, and nothing later. After an error nothing is left behind.
func Start(ctx context.Context, m *Module, o Options) (*Instance, error) {
	in := newInstance(ctx, m, o)
	err := in.bounded(ctx, func() error {
		if err := in.initialise(m); err != nil {
			return err
		}
		return in.connect()
	})
	if err != nil {
		in.discard(err)
		return nil, err
	}
	return in, nil
}

// Probe starts an instance as Start does, and stops it before it connects to
// anything. It returns what the module has published.
func Probe(ctx context.Context, m *Module, o Options) (published string, err error) {
	in := newInstance(ctx, m, o)
	err = in.bounded(ctx, func() error { return in.initialise(m) })
	published = in.Published()
	in.discard(err)
	return published, err
}

// Published returns the arguments that the module wants its clients to have, as
// it left them by the end of its set-up (docs/abi.md, "Arguments and state").
func (in *Instance) Published() string { return in.notes.published.text() }

// Memory returns the size of the instance's linear memory in bytes.
func (in *Instance) Memory() uint64 { return in.memory.Size() }

func newInstance(ctx context.Context, m *Module, o Options) *Instance {
	in := &Instance{o: o, shape: m.shape, dead: make(chan struct{})}
	// ctx itself bounds the start only, by way of Kill.
	in.life, in.endLife = context.WithCancel(context.WithoutCancel(ctx))
	in.main = newThread(in)
	in.mode = stream.Careful
	if m.shape.Posix {
		in.mode = stream.Posix
	}
	in.fds.limit = o.Limits.Descriptors
	return in
}

// bounded runs f, killing the instance if ctx ends first.
func (in *Instance) bounded(ctx context.Context, f func() error) error {
	stopWatch := context.AfterFunc(ctx, func() { in.Kill(context.Cause(ctx)) })
	err := f()
	if !stopWatch() && err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// discard ends an instance that never ran, and its connections.
func (in *Instance) discard(cause error) {
	in.Kill(cause)
	in.Release()
	for _, p := range in.Ports() {
		_ = p.Close() // nobody has used them
	}
}

// initialise instantiates the module and runs what comes before its role.
func (in *Instance) initialise(m *Module) (err error) {
	if in.many == nil && !slices.Contains(m.shape.Roles, in.o.Role) || in.many != nil && !m.shape.HasMany(in.o.Role) {
		return &RoleError{in.o.Role, m.shape.Missing[in.o.Role]}
	}
	if m.memory.Min > in.o.Limits.Memory {
		return &LimitError{"bytes of memory", int(in.o.Limits.Memory)}
	}
	if err := m.count(in.o.Limits.Instances); err != nil {
		return err
	}
	in.countedBy = m
	in.openStandard()
	ctx := in.callContext(in.main)
	in.memory.Limit, in.memory.Image = in.o.Limits.Memory, m.image
	cfg := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithRandSource(rand.Reader).
		WithSysWalltime().
		WithSysNanotime().
		WithSysNanosleep().
		WithOsyield(runtime.Gosched)
	in.mod, err = m.engine.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, &in.memory), m.compiled, cfg)
	if err != nil {
		return in.failure("instantiate", err)
	}
	stop, ok := in.mod.ExportedGlobal(wasmfile.StopGlobal).(api.MutableGlobal)
	if !ok {
		return &BrokenError{"stop switch", "is missing"}
	}
	in.stop.Store(&stop)
	if err := in.alive(); err != nil { // Kill may have come before the switch was there
		return err
	}
	for _, name := range []string{wasmfile.StartFunction, "_initialize", "_start"} {
		f := in.mod.ExportedFunction(name)
		if f == nil {
			continue
		}
		var exit *sys.ExitError
		// A command-like module may end its _start with an exit of 0.
		if _, err := f.Call(ctx); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 0) {
			return in.failure(name, err)
		}
	}
	_, err = in.call(in.shape.ABI.init)
	return err
}

// connect calls the role's function and hands over the control channel.
func (in *Instance) connect() error {
	var args []uint64
	if in.o.Role.hasCaller() {
		in.caller = stream.NewPort(in.o.Caller, in.mode)
		fd, err := in.addPort(in.caller)
		if err != nil {
			return err
		}
		args = []uint64{uint64(uint32(fd))}
	}
	fd, err := in.call(in.shape.ABI.roles[in.o.Role], args...)
	if err != nil {
		return err
	}
	if in.o.Role.hasCaller() {
		if d := in.fds.get(uint32(fd)); d == nil || d.port == nil || d.port == in.caller {
			return &BrokenError{in.shape.ABI.roles[in.o.Role].name,
				fmt.Sprintf("returned %d, which is not a network connection", fd)}
		}
	}
	near, far := stream.NewPipe()
	in.control = far
	ctrl, ok := in.fds.insert(&descriptor{port: stream.NewPort(near, stream.Posix)})
	if !ok {
		return &LimitError{"open descriptors", in.o.Limits.Descriptors}
	}
	_, err = in.call(in.shape.ABI.cancel, uint64(uint32(ctrl)))
	return err
}

// Run carries bytes until the module is done. It returns nil at a clean end.
func (in *Instance) Run() error {
	r, err := in.invoke(in.shape.ABI.worker)
	if err != nil {
		return err
	}
	// A module that was shown the end of its work may call that an error.
	if r >= 0 || in.main.shown {
		return nil
	}
	return in.failed(in.shape.ABI.worker.name, r)
}

// call invokes an export for which a negative result is an error.
func (in *Instance) call(f function, args ...uint64) (int32, error) {
	r, err := in.invoke(f, args...)
	if err == nil && r < 0 {
		// The host's own error says more than the number it was turned into.
		if host := in.hostErr.Load(); host != nil {
			return 0, *host
		}
		err = in.failed(f.name, r)
	}
	return r, err
}

// failed makes an error of a negative result, with the module's own words if it
// has left any.
func (in *Instance) failed(where string, result int32) error {
	return &ResultError{where, result, in.notes.reason.take()}
}

func (in *Instance) invoke(f function, args ...uint64) (int32, error) {
	if err := in.alive(); err != nil {
		return 0, err
	}
	out, err := in.mod.ExportedFunction(f.name).Call(in.callContext(in.main), args...)
	if err != nil {
		return 0, in.failure(f.name, err)
	}
	return int32(uint32(out[0])), nil
}

func (in *Instance) callContext(t *thread) context.Context {
	return context.WithValue(context.Background(), threadKey{}, t)
}

// failure tells a trap or an exit of the module's own from one that Kill caused.
func (in *Instance) failure(where string, err error) error {
	if dead := in.alive(); dead != nil {
		return dead
	}
	said := in.said()
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return &BrokenError{where, fmt.Sprintf("exited with status %d%s", exit.ExitCode(), said)}
	}
	return &TrapError{where, said, err}
}

// died notes what the module's runtime printed when it gave up.
func (in *Instance) died(line string) {
	line = oneLine(line)
	in.lastWords.CompareAndSwap(nil, &line)
}

// said returns that as the end of an error message.
func (in *Instance) said() string {
	if line := in.lastWords.Load(); line != nil {
		return fmt.Sprintf(" (it said %q)", *line)
	}
	return ""
}

// Kill stops the instance wherever it is: in its own code or in a host call. The
// cause is what Start or Run return.
func (in *Instance) Kill(cause error) {
	if cause == nil {
		cause = ErrKilled
	}
	in.deadOnce.Do(func() {
		in.cause = cause
		close(in.dead)
		in.endLife()
		if stop := in.stop.Load(); stop != nil {
			(*stop).Set(1)
		}
	})
}

func (in *Instance) alive() error {
	select {
	case <-in.dead:
		return in.cause
	default:
		return nil
	}
}

// checkAlive unwinds the module if the instance has been killed.
func (in *Instance) checkAlive() {
	select {
	case <-in.dead:
		panic(sys.NewExitError(exitKilled))
	default:
	}
}

// Release frees the module's memory. No export is running any more. The ports
// stay as they are: see Ports.
func (in *Instance) Release() {
	in.Kill(nil)
	if in.mod != nil {
		// The error would be that of a file system we do not use.
		_ = in.mod.Close(context.Background())
	}
	if in.control != nil {
		_ = in.control.Close()
	}
	for _, d := range in.fds.all() {
		_ = d.release() // the connections themselves are still to be drained
	}
	if in.countedBy != nil {
		_ = in.countedBy.unuse(&in.countedBy.running) // see Module.Close
	}
	if in.o.State != nil {
		_ = in.o.State.Close() // a directory that was only read
	}
}

// Caller returns the port on the Go caller's side, nil in the relay role.
func (in *Instance) Caller() *stream.Port { return in.caller }

// Ports returns the caller's and the network's ports. They outlive the module,
// so that what it wrote can still leave; the user closes them.
func (in *Instance) Ports() []*stream.Port {
	in.portsMu.Lock()
	defer in.portsMu.Unlock()
	return append([]*stream.Port(nil), in.ports...)
}

// Counts returns what the instance's connection has moved.
func (in *Instance) Counts() (n Counts) {
	for _, p := range in.Ports() {
		n.add(p, p == in.caller)
	}
	return n
}

// addPort gives a connection a descriptor.
func (in *Instance) addPort(p *stream.Port) (int32, error) {
	fd, ok := in.fds.insert(&descriptor{port: p})
	if !ok {
		return 0, &LimitError{"open descriptors", in.o.Limits.Descriptors}
	}
	in.portsMu.Lock()
	in.ports = append(in.ports, p)
	in.portsMu.Unlock()
	return fd, nil
}

// Finish asks the module to end once what the caller wrote has reached the
// network. It does not wait; Kill is what follows if the module does not end.
func (in *Instance) Finish() {
	in.closing.Store(true)
	in.main.wake.Wake()
}

// sayGoodbye sends the exit message of both ABIs: one byte, then the end of the
// control channel.
func (in *Instance) sayGoodbye() {
	in.goodbye.Do(func() {
		_, _ = in.control.Write([]byte{0})
		_ = in.control.CloseWrite()
	})
}
