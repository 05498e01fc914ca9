// Package watm is the SDK for transport modules in Go. A transport implements
// [Transport] on ordinary connections, and its main function calls [Run]:
//
//	type transport struct{}
//
//	func (transport) Client(ctx context.Context, conn watm.Conn, args watm.Args) (net.Conn, error) {
//		return scramble(conn), nil
//	}
//
//	func (transport) Server(ctx context.Context, conn watm.Conn) (net.Conn, error) {
//		return scramble(conn), nil
//	}
//
//	func main() { watm.Run(transport{}) }
//
// The standard Go compiler makes a module of it:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o mine.wasm .
//
// The module carries any number of connections in one instance where the host
// can do that, and one connection per instance anywhere else: in both, each
// connection has its own calls of the transport's methods, and they run at the
// same time. Goroutines, deadlines, time, crypto/rand and crypto/tls work as in
// any Go program; there is no other network, no environment, and no file but the
// configuration and, if the operator grants one, a state directory. What the
// standard log package prints, and anything else on standard output or standard
// error, goes to the host's log at the level debug.
//
// A transport may also implement [Starter], for what comes before the first
// connection and to tell tor which arguments clients need; [ArgsChecker], if its clients
// take arguments; [Dialer], if it makes its connections itself; and [Acceptor], if it
// multiplexes. The package compiles
// natively as well, so that transports can be tested like other Go code: their
// methods take any connection.
//
// A panic in a call of the SDK (a method of the transport or of a connection that
// it returned) ends that connection. One in a goroutine that the transport has
// started itself ends the instance, and all of its connections.
//
// docs/writing-a-module.md is a walkthrough, docs/abi.md specifies what goes on below.
package watm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"waterproxy/internal/records"
)

// Conn is a connection that the host has made: a net.Conn that can be closed one
// direction at a time. Embedding it in a transport's own type passes CloseWrite
// on. Its addresses say nothing. It is safe for concurrent use.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Transport decides how bytes look on the wire. Its methods are called at the same
// time for different connections.
//
// The connection that a method returns is read, written and closed by the SDK,
// which carries its bytes from and to the caller (on the client, tor; on the
// server, tor's ORPort). It owns the one that it was made of. Both directions are
// independent: when the caller ends one of them, the SDK calls the connection's
// CloseWrite, if it has one, and goes on reading. A connection without CloseWrite
// is closed as a whole then, so it should have one if the transport can express
// the end of one direction. If the connection has a method WriteTo (io.WriterTo),
// the SDK prefers it, which lets the transport decide when it holds a buffer.
//
// An error fails the set-up of this one connection, whose bytes then go nowhere.
// Its text ends up in the operator's log: it should say what is wrong without
// giving addresses or the values of arguments.
type Transport interface {
	// Client wraps a connection to the server, after a handshake if there is one.
	// The arguments are those of the bridge line. ctx ends when the caller has
	// given up; conn is closed then, too.
	Client(ctx context.Context, conn Conn, args Args) (net.Conn, error)
	// Server wraps a connection that a client has made. ctx ends when the host has
	// given it up; conn is closed then, too.
	Server(ctx context.Context, conn Conn) (net.Conn, error)
}

// Starter is a Transport that has something to do before the first connection.
type Starter interface {
	// Start is called once in each instance, before all other methods. An error
	// fails the transport as a whole; tor's log shows its text.
	Start(env *Env) error
}

// ArgsChecker is a Transport that can check the arguments of a bridge line without a connection.
// A user then learns of bad ones when the client starts, and not when a connection fails.
type ArgsChecker interface {
	// CheckArgs returns an error if no connection can be made with the arguments of
	// the bridge line. Its text names the argument and what is expected, and quotes
	// no value. The SDK calls it before each call of Client or Dial, which need not
	// check again, and when the host asks, after Start and before any connection. It
	// must not block.
	CheckArgs(args Args) error
}

// SelfTester is a Transport that can test itself without a connection. A host that takes a
// new version of the module by itself runs the test first, and stays with the version
// before if it fails.
type SelfTester interface {
	// SelfTest returns an error if the transport cannot work here. It is called after
	// Start, in an instance that is for nothing else and has no network.
	SelfTest() error
}

// Dialer is a Transport that decides itself which connections it makes: several
// for one caller, none because callers share one, or to addresses of its own.
// The SDK calls Dial instead of Client, which must be there and is not used.
type Dialer interface {
	Dial(ctx context.Context, r *Request) (net.Conn, error)
}

// Acceptor is a Transport over each of whose network connections several callers'
// connections come. The SDK calls Accept instead of Server, which must be there and
// is not used.
type Acceptor interface {
	// Accept calls deliver for each of them, and returns when no more will come.
	// deliver waits for the host to take the connection; an error means that it
	// did not, and that the connection has been closed. conn belongs to Accept;
	// the SDK closes it when Accept has returned and all that was delivered has
	// ended.
	Accept(ctx context.Context, conn Conn, deliver func(net.Conn) error) error
}

// Request is what a [Dialer] is asked for.
type Request struct {
	// Args are the arguments of the bridge line.
	Args Args
	// Network and Address are what Connect dials, as for net.Dial. They are empty
	// if the host gave no address.
	Network, Address string

	dial   func(ctx context.Context, target string, shared bool) (Conn, error)
	shared bool
}

// NewRequest returns a request whose connections are made by dial, for tests of a
// Dialer. The address that dial gets is empty for Connect. shared reports whether the
// request was made by Shared.
func NewRequest(args Args, network, address string, dial func(ctx context.Context, network, address string, shared bool) (Conn, error)) *Request {
	return &Request{Args: args, Network: network, Address: address, dial: func(ctx context.Context, target string, shared bool) (Conn, error) {
		network, address := records.SplitTarget(target)
		return dial(ctx, network, address, shared)
	}}
}

// Connect dials the address of the request. The connection belongs to the caller's
// one and is closed with it.
func (r *Request) Connect(ctx context.Context) (Conn, error) { return r.dial(ctx, "", r.shared) }

// ConnectTo dials an address of the transport's choice, which the operator must
// have granted.
func (r *Request) ConnectTo(ctx context.Context, network, address string) (Conn, error) {
	return r.dial(ctx, network+" "+address, r.shared)
}

// Shared returns a request for the same address whose connections belong to the
// transport: they stay up, for the use of several callers, until the transport
// closes them.
func (r *Request) Shared() *Request {
	s := *r
	s.shared = true
	return &s
}

// Env is what a transport can know of its host.
type Env struct {
	// Server is true if the transport is a server's; otherwise it is a client's.
	Server bool
	// Config is the module's configuration, nil if it has none.
	Config []byte
	// Args are a server's arguments (ServerTransportOptions).
	Args Args
	// StateDir is a directory for files of the transport's own that outlive the
	// instance; empty if the operator has granted none.
	StateDir string

	publish        func(text string) error
	publishAddress func(address string) error
}

// keepOpen is what KeepOpen was given.
var keepOpen time.Duration

// KeepOpen sets how long, from its beginning, a client's connection stays open that
// fails before Server has returned, if not by Server's own decision: because the
// instance ends, or a limit is reached. The host then reads from it and sends
// nothing, as a transport does after a bad handshake, so that a prober cannot tell
// the two apart. It is of use in Start only, and on a server.
func (e *Env) KeepOpen(d time.Duration) { keepOpen = d }

// maxPublished bounds what Publish takes, in bytes.
const maxPublished = 4096

// Publish tells the host which arguments clients need (SMETHOD ARGS), which tor
// writes into the bridge line. It is of use in Start only, and on a server. Values
// must be printable ASCII without spaces; commas, equals signs and backslashes in
// them do not survive tor. Every instance of the module, also one that is started
// after a failure, has to publish the same: what they are made of belongs into
// StateDir. A host that has no way to tell anybody returns an error.
func (e *Env) Publish(args Args) error {
	if e.publish == nil {
		return errors.New("there is no host to publish arguments")
	}
	text := args.String()
	if len(text) > maxPublished {
		return fmt.Errorf("the arguments to publish are %d bytes long; %d are possible", len(text), maxPublished)
	}
	return e.publish(text)
}

// PublishAddress tells the host which address clients' bridge lines have in the place of the
// one that the server listens on, for a transport whose clients find the server by their
// arguments. It is of use in Start only, and on a server, and every instance has to publish
// the same. The host takes only addresses of documentation, which nobody can dial:
// [2001:db8::...]:PORT. A host that has no way to tell anybody returns an error.
func (e *Env) PublishAddress(address string) error {
	if e.publishAddress == nil {
		return errors.New("there is no host to publish an address")
	}
	return e.publishAddress(address)
}

// transport is the one given to Run.
var transport Transport

// Run sets which transport the module is. It is called once, by main or by an
// init function, and returns; main should do so as well. Outside of a module it
// only remembers t.
func Run(t Transport) { transport = t }
