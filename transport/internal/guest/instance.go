// Package guest runs transport modules: it compiles them, starts instances,
// gives them their descriptors and host functions, and stops them.
package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"waterproxy/transport/internal/linmem"
	"waterproxy/transport/internal/stream"
)

// Host gives an instance its network connections. The methods are called by the
// instance's threads, maybe by several at once, and end when ctx does.
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
	Memory      uint64 // bytes of the host's; see Instance.Memory
	Descriptors int    // of a connection, or of the instance besides connections
	Threads     int    // of an instance, besides the one that it begins with
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
	Quota      *Quota // of State; nil is no limit
	Args       string // of the server, or of the client's one connection; see ptargs.Format
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

// ErrAborted is the cause of an instance that was stopped by Abort(nil).
var ErrAborted = errors.New("the instance was stopped")

// exitAborted is what an aborted instance unwinds with; it never reaches a user.
const exitAborted = 0xdead

// Instance is one running module. Start and Run are called by one goroutine, one
// after the other; the rest may be called from anywhere.
type Instance struct {
	o         Options
	module    *Module
	shape     *Shape
	shared    *sharedMemory // nil if the memory is for one thread
	fds       descriptors
	main      *thread
	poller    *stream.Poller // where the endpoints wait; nil for that of the process
	mode      stream.Mode
	many      *Many // nil if the instance serves one connection
	mailboxes mailboxes
	keys      keyring // of water_crypto_v1
	calls     struct{ all, crypto atomic.Int64 }

	caller  *stream.Endpoint
	control *stream.PipeConn

	endpointsMu sync.Mutex
	endpoints   []*stream.Endpoint // caller and network, in the order they came
	dialing     int                // connections that threads are about to add
	past        ConnStats          // of endpoints that are gone

	threads threads
	life    context.Context // ends with Abort; bounds what the host does for the module
	endLife context.CancelFunc
	hostErr atomic.Pointer[error]
	// lastWords is what its runtime printed when it gave up, as Go's and Rust's do.
	lastWords atomic.Pointer[string]
	countedBy *Module          // nil before this instance counts as one of the module's
	memory    linmem.Allocator // unless it is shared
	dead      chan struct{}
	deadOnce  sync.Once
	cause     error // set before dead is closed
	closing   atomic.Bool
	activity  atomic.Uint64 // counts what could give the module reason to write
	goodbye   sync.Once
}

// Start brings an instance of m to the point where Run can carry bytes: it is
// initialised, its role's function has returned and its connections are up. ctx
// bounds all of that, and nothing later. After an error nothing is left behind.
func Start(ctx context.Context, m *Module, o Options) (*Instance, error) {
	in := newInstance(ctx, m, o)
	err := in.bounded(ctx, func() error {
		if err := in.initialise(); err != nil {
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
func Probe(ctx context.Context, m *Module, o Options) (published Published, err error) {
	in := newInstance(ctx, m, o)
	err = in.bounded(ctx, in.initialise)
	published = in.Published()
	in.discard(err)
	return published, err
}

// Published is what the module publishes for its clients, as it wrote it: arguments, and an
// address for the bridge line. Either may be empty.
type Published struct{ Args, Address string }

// Published returns what the module publishes, as it left it by the end of its set-up
// (docs/abi.md, "Arguments and state").
func (in *Instance) Published() Published {
	return Published{in.mailboxes.published.text(), in.mailboxes.address.text()}
}

func newInstance(ctx context.Context, m *Module, o Options) *Instance {
	in := &Instance{o: o, module: m, shape: m.shape, dead: make(chan struct{})}
	// ctx itself bounds the start only, by way of Abort.
	in.life, in.endLife = context.WithCancel(context.WithoutCancel(ctx))
	in.threads.init()
	in.main = newThread(in)
	in.memory.Limit, in.memory.Image, in.memory.Beside = o.Limits.Memory, m.image, in.beside
	in.mode = stream.Careful
	if m.shape.Posix || m.shape.Threads() {
		in.mode = stream.Posix
	}
	in.fds.limit = o.Limits.Descriptors
	in.fds.room = func() bool { return in.hasRoom(descriptorCost) }
	return in
}

// bounded runs f, aborting the instance if ctx ends first.
func (in *Instance) bounded(ctx context.Context, f func() error) error {
	stopWatch := context.AfterFunc(ctx, func() { in.Abort(context.Cause(ctx)) })
	err := f()
	if !stopWatch() && err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// discard ends an instance that never ran, and its connections.
func (in *Instance) discard(cause error) {
	in.Abort(cause)
	in.Release()
	for _, p := range in.Endpoints() {
		_ = p.Close() // they have carried nothing
	}
}

// initialise instantiates the module and runs what comes before its role.
func (in *Instance) initialise() (err error) {
	m := in.module
	if in.many == nil && !slices.Contains(m.shape.Roles, in.o.Role) || in.many != nil && !m.shape.HasMany(in.o.Role) {
		return &RoleError{in.o.Role, m.shape.Missing[in.o.Role]}
	}
	if m.LeastMemory() > in.o.Limits.Memory {
		return &LimitError{"bytes of memory", int(in.o.Limits.Memory)}
	}
	if err := m.count(in.o.Limits.Instances); err != nil {
		return err
	}
	in.countedBy = m
	in.openStandard()
	if m.memory.Shared {
		room := func(size uint64) bool { return size+in.beside() <= in.o.Limits.Memory }
		if in.shared, err = m.newSharedMemory(in.life, in.o.Limits.Memory, room); err != nil {
			return in.failure("instantiate", err)
		}
	} else { // its only thread waits for its own sockets
		if in.poller, err = stream.NewPoller(); err != nil {
			return err
		}
		in.main.waiter = in.poller
	}
	if err := in.instantiate(in.main); err != nil {
		return err
	}
	for _, name := range []string{"_initialize", "_start"} {
		if err := in.main.begin(name); err != nil {
			return err
		}
	}
	_, err = in.call(in.shape.ABI.init)
	return err
}

// connect calls the role's function and hands over the control channel.
func (in *Instance) connect() error {
	var args []uint64
	if in.o.Role.hasCaller() {
		in.caller = stream.NewEndpoint(in.o.Caller, in.mode)
		fd, err := in.addEndpoint(in.caller)
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
		if d := in.fds.get(uint32(fd)); d == nil || d.endpoint == nil || d.endpoint == in.caller {
			return &BrokenError{in.shape.ABI.roles[in.o.Role].name,
				fmt.Sprintf("returned %d, which is not a network connection", fd)}
		}
	}
	near, far := stream.NewPipe()
	in.control = far
	ctrl, ok := in.fds.insert(&descriptor{endpoint: stream.NewEndpoint(near, stream.Posix)})
	if !ok {
		return &LimitError{"open descriptors", in.o.Limits.Descriptors}
	}
	_, err = in.call(in.shape.ABI.cancel, uint64(uint32(ctrl)))
	return err
}

// Run carries bytes until the module is done. It returns nil at a clean end.
func (in *Instance) Run() error {
	if err := in.startWorkers(); err != nil {
		return err
	}
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
		// The host's own error has more in it than the number it was turned into.
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
	return &ResultError{where, result, in.mailboxes.reason.take()}
}

func (in *Instance) invoke(f function, args ...uint64) (int32, error) {
	out, err := in.main.invoke(f.name, args...)
	if err != nil {
		return 0, err
	}
	return int32(uint32(out[0])), nil
}

// failure tells a trap or an exit of the module's own from one that Abort caused.
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

// Abort stops the instance wherever it is: in its own code or in a host call. The
// cause is what Start or Run return.
func (in *Instance) Abort(cause error) {
	if cause == nil {
		cause = ErrAborted
	}
	in.deadOnce.Do(func() {
		in.cause = cause
		close(in.dead)
		in.endLife()
		in.threads.stop()
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

// checkAlive unwinds the module if the instance has been aborted.
func (in *Instance) checkAlive() {
	select {
	case <-in.dead:
		panic(sys.NewExitError(exitAborted))
	default:
	}
}

// Release frees the module's memory, once its threads have ended; the one that it
// began with runs no more. The endpoints
// stay as they are: see Endpoints.
func (in *Instance) Release() {
	in.Abort(nil)
	in.threads.wait()
	in.main.close()
	if in.shared != nil {
		in.shared.bytes.Release()
	}
	if in.poller != nil {
		_ = in.poller.Close() // nothing of it can be lost
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

// Caller returns the endpoint on the Go caller's side, nil in the relay role.
func (in *Instance) Caller() *stream.Endpoint { return in.caller }

// Endpoints returns the caller's and the network's endpoints. They outlive the module,
// so that what it wrote can still leave; the user closes them.
func (in *Instance) Endpoints() []*stream.Endpoint {
	in.endpointsMu.Lock()
	defer in.endpointsMu.Unlock()
	return append([]*stream.Endpoint(nil), in.endpoints...)
}

// HostCalls returns how many host functions the module has called, and how many of them
// are cryptography.
func (in *Instance) HostCalls() (all, crypto int64) {
	return in.calls.all.Load(), in.calls.crypto.Load()
}

// Stats returns what the instance's connection has moved.
func (in *Instance) Stats() ConnStats {
	in.endpointsMu.Lock()
	defer in.endpointsMu.Unlock()
	n := in.past
	for _, p := range in.endpoints {
		n.add(p, p == in.caller)
	}
	return n
}

// forgetDrained closes the network connections that the module has closed, those that
// have nothing to drain, and reports whether there were any. endpointsMu is held.
func (in *Instance) forgetDrained() bool {
	before := len(in.endpoints)
	in.endpoints = slices.DeleteFunc(in.endpoints, func(p *stream.Endpoint) bool {
		if p == in.caller || in.fds.has(p) || !p.Drained() {
			return false
		}
		_ = p.Close() // the error is of no use
		in.past.add(p, false)
		return true
	})
	return len(in.endpoints) < before
}

// addEndpoint gives a connection a descriptor.
func (in *Instance) addEndpoint(p *stream.Endpoint) (int32, error) {
	p.WatchIn(in.poller)
	fd, ok := in.fds.insert(&descriptor{endpoint: p})
	if !ok {
		return 0, &LimitError{"open descriptors", in.o.Limits.Descriptors}
	}
	in.endpointsMu.Lock()
	in.endpoints = append(in.endpoints, p)
	in.endpointsMu.Unlock()
	return fd, nil
}

// Close asks the module to end once what the caller wrote has reached the
// network. It does not wait; Abort is what follows if the module does not end.
func (in *Instance) Close() {
	in.closing.Store(true)
	in.main.waiter.Wake()
}

// sayGoodbye sends the exit message of both ABIs: one byte, then the end of the
// control channel.
func (in *Instance) sayGoodbye() {
	in.goodbye.Do(func() {
		_, _ = in.control.Write([]byte{0})
		_ = in.control.CloseWrite()
	})
}
