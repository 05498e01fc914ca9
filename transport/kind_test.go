package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"waterproxy/transport/internal/guest"
)

func TestKind(t *testing.T) {
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	for _, test := range []struct {
		err  error
		want string
		own  bool
	}{
		{nil, "", false},
		{refused, "connection refused", false},
		{&net.OpError{Op: "dial", Err: refused}, "connection refused", false},
		{&net.DNSError{IsTimeout: true}, "name lookup failed", false},
		{syscall.EMFILE, "out of descriptors", true},
		{syscall.ECONNRESET, "connection reset", false},
		{context.DeadlineExceeded, "timed out", false},
		{os.ErrDeadlineExceeded, "timed out", false},
		{errSetupTimeout, "timed out", false}, // a scanner that sends nothing
		{&ProxyError{"socks5", refused}, "upstream proxy", true},
		{&Error{"dial", ErrPolicy, refused}, "connection refused", false},
		{&Error{"dial", ErrPolicy, errors.New("x")}, "address not granted", true},
		{wrap("x", &guest.TrapError{Err: errors.New("x")}), "module trapped", true},
		{wrap("x", &guest.LimitError{What: "conns", Limit: 1}), "limit reached", true},
		{wrap("x", &guest.BrokenError{Where: "f", What: "returned"}), "module broke its ABI", true},
		{wrap("x", &guest.FailError{Errno: 29, Reason: "192.0.2.1"}), "given up by the module", false},
		{wrap("x", &guest.FailError{Errno: wasiEINVAL}), "arguments refused by the module", false},
		{wrap("x", &guest.ResultError{Result: -wasiEINVAL}), "arguments refused by the module", false},
		{&Error{"x", ErrConfig, errors.New("x")}, "configuration", true},
		{&Error{"x", ErrNetwork, io.EOF}, "connection closed", false},
		{&Error{"x", ErrNetwork, errors.New("x")}, "network error", false},
		{errors.New("192.0.2.1"), "other errors", false},
	} {
		for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err)} {
			if test.err == nil {
				err = nil
			}
			if kind, own := Kind(err); kind != test.want || own != test.own {
				t.Errorf("%v: %q, %v; want %q, %v", err, kind, own, test.want, test.own)
			}
		}
	}
}
