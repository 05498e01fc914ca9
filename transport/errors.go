package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"waterproxy/transport/internal/guest"
)

// The layers at which something can go wrong, for use with errors.Is. An error
// of this package that concerns a dial, a connection or a module belongs to
// exactly one of them.
var (
	// ErrConfig: the program's use of this package, or a file it named.
	ErrConfig = errors.New("configuration error")
	// ErrModule: the file is no module that can run here, or it broke its ABI or
	// reported a failure of its own.
	ErrModule = errors.New("module error")
	// ErrRole: the module does not offer the role asked for.
	ErrRole = errors.New("role missing")
	// ErrTrap: the module's code failed while running.
	ErrTrap = errors.New("module trapped")
	// ErrLimit: the module wanted more memory, descriptors or time than it may
	// have.
	ErrLimit = errors.New("limit reached")
	// ErrPolicy: the module wanted an address that it was not granted.
	ErrPolicy = errors.New("address not granted")
	// ErrNetwork: the network connection could not be made or failed. The
	// underlying error is in the chain: errors.Is(err, syscall.ECONNREFUSED)
	// and the like work.
	ErrNetwork = errors.New("network error")
)

// Error is the type of this package's errors. It unwraps to its layer and to
// its cause.
type Error struct {
	Op    string // what was being done
	Layer error  // one of the Err values above
	Err   error  // the cause
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the layer and the cause.
func (e *Error) Unwrap() []error { return []error{e.Layer, e.Err} }

// RoleError is in the chain of every [ErrRole]: the module lacks a role.
type RoleError struct {
	Role   Role
	Reason string // what the module lacks, for people
}

func (e *RoleError) Error() string {
	return fmt.Sprintf("the module cannot be a %v: %s", e.Role, e.Reason)
}

// wrap finds the layer of an internal error. Context errors are returned as
// part of their layer, so errors.Is finds them too.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	if role, ok := errors.AsType[*guest.RoleError](err); ok {
		err = &RoleError{role.Role, role.Reason}
	}
	return &Error{op, layerOf(err), err}
}

func layerOf(err error) error {
	var (
		role   *RoleError
		trap   *guest.TrapError
		limit  *guest.LimitError
		netErr net.Error
		errno  syscall.Errno
	)
	switch {
	case errors.As(err, &role):
		return ErrRole
	case errors.As(err, &trap):
		return ErrTrap
	case errors.As(err, &limit):
		return ErrLimit
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &netErr), errors.As(err, &errno):
		return ErrNetwork
	}
	return ErrModule
}

// ProxyError is for a [Config.Dial] that goes through a proxy: the failure of the
// proxy, and not of what is behind it. Logs show its text, in which there should be no
// address.
type ProxyError struct {
	Kind string // of the proxy
	Err  error
}

func (e *ProxyError) Error() string { return "upstream " + e.Kind + " proxy: " + e.Err.Error() }

func (e *ProxyError) Unwrap() error { return e.Err }

// Scrub describes an error without the addresses and names of hosts that may be
// in it, for logs; "" for nil.
func Scrub(err error) string {
	var (
		own   *Error
		proxy *ProxyError
		dns   *net.DNSError
		errno syscall.Errno
		slow  net.Error
	)
	if err == nil {
		return ""
	}
	prefix := ""
	if errors.As(err, &own) {
		prefix = own.Op + ": "
	}
	switch {
	case errors.As(err, &proxy):
		return prefix + proxy.Error()
	case errors.As(err, &dns):
		return prefix + "name lookup failed"
	case errors.As(err, &errno):
		return prefix + errno.Error()
	case errors.As(err, &slow) && slow.Timeout():
		return prefix + "timed out"
	case errors.Is(err, context.Canceled):
		return prefix + "cancelled"
	case errors.Is(err, net.ErrClosed):
		return prefix + "the connection was closed"
	case own == nil || own.Layer == ErrNetwork:
		return prefix + "the network connection failed"
	}
	return err.Error() // of our own making, or about a module
}
